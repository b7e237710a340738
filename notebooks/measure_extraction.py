# %% [markdown]
# # Measure extraction
#
# **Stage: a model is prompted with the prefix of every passage; greedy decoding must reproduce the suffix exactly.**
#
# ## What you will learn
#
# - how exact-match extraction is defined;
# - how many passages the untouched student gives away;
# - what is left of them after self-training.
#
# ## What this notebook establishes, and what it does not
#
# It counts exact reproductions of passages that are known to be in the pre-training data. A student may
# still know a part of a passage that it no longer reproduces; the matched tokens tell how much.

# %%
import pandas as pd

from nbutils.charts import pairing
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("measure_extraction", globals())

# %% [markdown]
# ## Before and after
#
# Exactly reproduced passages, with exact binomial (Clopper-Pearson) intervals. Choices are made on the
# split `dev`; the split `held_out` is for reporting.

# %%
run = s.plan.extraction(student, s.pairing)
before, after = s.frame(s.plan.extraction(student), "extraction"), s.frame(run, "extraction")
s.show(pairing.extraction({"before": before, "after": after}))

# %% [markdown]
# The net fall compares the two counts. Passages that were lost and passages that are newly extracted can
# both be many where it is small, so they are counted apart.

# %%
held_out = before.split == "held_out"
lost = (held_out & before.exact & ~after.exact).sum()
new = (held_out & ~before.exact & after.exact).sum()
s.say([f"Of {held_out.sum()} held-out passages, {lost} were lost and {new} are newly extracted."])

# %% [markdown]
# ## The passages
#
# A prompt is the prefix of a passage and nothing else, as for Pythia, whose training sequences began
# anywhere in a document. Where a tokenizer begins every text with BOS, as those of Gemma and Llama 3 do,
# every training sequence of the model began with BOS, and so does the prompt.

# %%
passages = s.frame(s.plan.model(student), "passages")
first = passages.iloc[0]
s.say([f"{len(first.prefix)} tokens of prompt, {len(first.suffix)} tokens to reproduce."])

# %% [markdown]
# How the student is read, which token begins its prompts included:

# %%
s.read_as(student)

# %% [markdown]
# ## How far greedy decoding follows
#
# The number of leading suffix tokens that are right, and how many passages reach it.

# %%
counts = pd.DataFrame({"before": before.matched_tokens, "after": after.matched_tokens})
counts = counts.apply(lambda column: column.value_counts()).fillna(0).astype(int)
s.show(counts.rename_axis("matched tokens").reset_index())

# %% [markdown]
# ## Passages that were lost
#
# The passage, its true suffix, and how many tokens of it the student gave before and gives now.

# %%
found = passages.assign(before=before.matched_tokens, after=after.matched_tokens)
found = found[held_out & before.exact & ~after.exact]
s.show(found[["passage", "text", "suffix_text", "before", "after"]].head(5))

# %% [markdown]
# ## How it is done
#
# Greedy decoding follows the true suffix as long as the most likely next token is the true one. So the
# code needs no decoding: it reads prefix and suffix in one pass and counts the suffix tokens that are the
# most likely ones, up to the first that is not.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(s.plan.extraction(student), run)

# %% [markdown]
# ## Try it
#
# - Does the text of another member of the lineage erase more?
#   `nbutils notebook measure_extraction -p source neox-large`
# - Does an adapter erase less? `nbutils notebook measure_extraction -p method lora`
