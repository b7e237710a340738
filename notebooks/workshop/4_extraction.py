# %% [markdown]
# # 4. What is still remembered?
#
# **Passages were planted in the student's pre-training text. Which can it recite before it is trained
# on a corpus, and which still after?**
#
# ## What you will learn
#
# - how exact-match extraction is counted, and on which passages;
# - what an exact interval says about a count, also about a count of zero;
# - that memory and utility need not fall together.
#
# ## What this exercise establishes, and what it does not
#
# It counts passages that greedy decoding reproduces to the last token. A passage that is no longer
# reproduced may still be known in part.

# %%
from dataclasses import replace

import pandas as pd

from nbutils.analysis.inference import exact_interval
from nbutils.notebooks import checks, session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "workshop"  # scale: a file under notebooks/tiers/
student: str = "qwen-small"  # model that is fine-tuned on the corpus
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# One call opens the notebook: `s` holds the runs of the tier, and computes and shows them.

# %%
s = session.open("workshop/4_extraction", globals())

# %% [markdown]
# ## The passages
#
# Each stands in the middle of many training documents, never at their start: sampling from BOS would
# write it out again. The `dev` split is for choices, the `held_out` split for reporting.

# %%
passages = s.frame(s.plan.model(student), "passages")
s.show(passages[["passage", "split", "text", "suffix_text"]].tail(4))

# %% [markdown]
# The student of exercise 3 is prompted with the prefix of every passage: untouched, and after each
# corpus. `s.pairing` is the self pairing that the parameters name; the others differ in their source.

# %%
pairings = {source: replace(s.pairing, source=source) for source in s.plan.tier.models}
asked = {"untouched": s.plan.extraction(student)}
asked |= {source: s.plan.extraction(student, pairing) for source, pairing in pairings.items()}
found = {name: s.frame(run, "extraction") for name, run in asked.items()}
found["untouched"].head(3)

# %% [markdown]
# ## Gap 1: counts
#
# How many held-out passages are reproduced exactly, and of how many?

# %% [markdown]
# <details><summary>Hint: which rows, which column?</summary>
#
# Rows with `split == "held_out"`; the column `exact` is true where the whole suffix came out.
#
# </details>

# %% gap=["counts"]
# TODO: `counts`, a dictionary from each name in `found` to
# (number exact, number of passages).
counts = {}
for name, rows in found.items():
    held_out = rows[rows["split"] == "held_out"]
    counts[name] = (int(held_out["exact"].sum()), len(held_out))

# %%
print(checks.counts(counts, found))

# %% [markdown]
# ## Gap 2: exact intervals
#
# With few passages, a share needs an interval that is right for small counts.

# %% [markdown]
# <details><summary>Hint: why not the share plus or minus two standard errors?</summary>
#
# With no passage reproduced its standard error is zero, and so would be the width of the interval. But
# nobody who has seen two dozen passages knows that the next cannot be reproduced.
#
# </details>
# <details><summary>Hint: which function?</summary>
#
# `exact_interval(successes, trials)` (Clopper and Pearson).
#
# </details>

# %% gap=["intervals"]
# TODO: `intervals`, a dictionary from each name in `counts` to
# its exact 95 % limits (low, high).
intervals = {name: exact_interval(k, n) for name, (k, n) in counts.items()}

# %%
print(checks.intervals(intervals, counts))

# %% [markdown]
# Side by side:

# %%
rows = [(n, *counts[n], counts[n][0] / counts[n][1], *intervals[n]) for n in counts]
columns = ["after the text of", "extracted", "passages", "share", "low", "high"]
s.show(pd.DataFrame(rows, columns=columns))

# %% [markdown]
# ## Gap 3: the fall
#
# A trained student may also recite a passage that it did not recite before, by chance. What the claim
# speaks of are the *survivors*: extracted before and after. The fall is one less the share of those
# extracted before that survive.

# %%
first = found["untouched"]
after = found[student]

# %% [markdown]
# <details><summary>Hint: how to find the survivors?</summary>
#
# Both tables have the passages in the same order: `first["exact"] & after["exact"]`. Held-out ones
# only.
#
# </details>

# %% gap=["fall"]
# TODO: `fall`, the fall of held-out extraction from `first` to
# `after`: 0 none, 1 all.
held_out = first["split"] == "held_out"
survivors = (first["exact"] & after["exact"] & held_out).sum()
fall = 1 - survivors / (first["exact"] & held_out).sum()

# %%
print(checks.fall(fall, first, after))

# %% [markdown]
# Now put the gains of exercise 3 beside these counts. Whose text made the student forget most? Did it
# cost most, too?
#
# ## Where this comes from

# %%
s.footer(*asked.values())

# %% [markdown]
# ## If there is time
#
# - `matched_tokens` counts how far greedy decoding follows a passage. Is what was lost lost wholly?
# - How many passages would it take to tell a share of 0 from a share of 5 %?
