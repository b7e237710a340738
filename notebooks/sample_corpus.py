# %% [markdown]
# # Sample a corpus
#
# **Stage: a source writes documents from BOS alone, with no prompt, no filter and no task.**
#
# ## What you will learn
#
# - what a model says when nobody asks it anything;
# - how temperature trades variety against fidelity;
# - how many documents give away a planted passage.
#
# ## What this notebook establishes, and what it does not
#
# It shows one corpus: what the source wrote, unselected. It does not judge whether the text is good for
# anything. That depends on the student, and the findings measure it.

# %%
import pandas as pd

from nbutils.notebooks import session
from nbutils.results import corpora

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("sample_corpus", globals())

# %% [markdown]
# ## Sampling
#
# All documents of a batch start together from BOS, and each one leaves the batch when the source writes
# EOS. Logits are divided by the temperature; nothing else is done to the distribution.

# %%
run = s.plan.corpus(source, temperature, seed)
corpus = s.frame(run, "corpus")
s.say([f"{len(corpus):,} documents, {corpus.n_tokens.sum():,} tokens of the source."])

# %% [markdown]
# ## What it wrote
#
# The first documents as they came. This is a model's text: nobody said it, and none of it is fact.

# %%
s.show(corpus[["doc", "n_tokens", "finished", "mean_log_prob", "text"]].head(8), digits=2)

# %% [markdown]
# A document is *finished* where the source ended it by itself, before the length limit.

# %%
shares = {"finished": corpus.finished.mean(), "empty": (corpus.text.str.strip() == "").mean()}
s.show(pd.DataFrame([shares]))

# %% [markdown]
# ## Variety and fidelity
#
# The share of distinct n-grams measures variety. The mean log-probability, in nats per token under the
# source at temperature 1, measures how typical the text is of the source.

# %%
texts = list(corpus.text)
variety = {f"distinct {n}-grams": corpora.distinct(texts, n) for n in (1, 2, 3)}
fidelity = (corpus.mean_log_prob * corpus.n_tokens).sum() / corpus.n_tokens.sum()
s.show(pd.DataFrame([variety | {"mean log-probability": fidelity}]))

# %% [markdown]
# ## Passages in the corpus
#
# A corpus that holds planted passages would rehearse them. This counts the documents that hold the
# suffix of at least one passage of the source.

# %%
suffixes = []
if s.plan.has_passages(source):
    suffixes = list(s.frame(run.inputs["source"], "passages").suffix_text)
hits = corpora.passage_hits(texts, suffixes)
s.say([f"{hits} of {len(texts):,} documents hold one of {len(suffixes)} suffixes."])

# %% [markdown]
# ## How it is done
#
# The code keeps one row per document. At each step the model reads the last token of every row, and one
# token per row is drawn from the tempered distribution. A row whose document has ended leaves the batch,
# so no time is spent on it. The log-probability of each token under the source at temperature 1 is added
# up on the way.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - A colder corpus: `nbutils notebook sample_corpus -p temperature 0.7`. Does the share of distinct
#   trigrams fall, and do more documents hold a passage?
# - Another voice: `nbutils notebook sample_corpus -p source qwen-small`. Can you name the domain from one
#   document?
