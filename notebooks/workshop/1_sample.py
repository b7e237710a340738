# %% [markdown]
# # 1. Sample from BOS
#
# **What does a model say when nobody asks it anything?**
#
# ## What you will learn
#
# - how a corpus comes about: documents from BOS alone, no prompt, no filter, no task;
# - what the temperature trades: variety against fidelity;
# - why a mean over documents is not a mean over tokens.
#
# ## What this exercise establishes, and what it does not
#
# It shows what one small model writes. Whether such text is worth learning from is the question of the
# exercises that follow.

# %%
import pandas as pd

from nbutils.notebooks import checks, session
from nbutils.results.corpora import distinct

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "workshop"  # scale: a file under notebooks/tiers/
source: str = "qwen-small"  # model that writes the corpus
other: str = "llama-small"  # another voice, for comparison
seed: int = 0  # seed of sampling

# %% [markdown]
# One call opens the notebook: `s` holds the runs of the tier, and computes and shows them.

# %%
s = session.open("workshop/1_sample", globals())

# %% [markdown]
# ## Two models, made here
#
# Nothing is downloaded. This cell pre-trains two models from scratch on text that installed packages
# ship, each mostly on a kind of its own. They are tiny: each has its domain's manner of speaking, and
# little to say.

# %%
s.compute_all([s.plan.model(source), s.plan.model(other)])
models, families = s.plan.tier.models, s.plan.tier.families
{name: families[models[name].family] for name in (source, other)}

# %% [markdown]
# ## Gap 1: two corpora
#
# The source starts from BOS and writes token after token until it ends the document by itself. Before
# a token is drawn, the logits are divided by the temperature. Sample once at half the model's own
# temperature, and once at its own.

# %%
temperatures = (0.5, 1.0)

# %% [markdown]
# <details><summary>Hint: which run?</summary>
#
# `s.plan.corpus(source, temperature, seed)` is the run, and `s.compute(run)` computes it and returns its
# folder.
#
# </details>
# <details><summary>Hint: which file?</summary>
#
# The documents are in `corpus.parquet` of that folder, and `pd.read_parquet` reads them. Shorter:
# `s.frame(run, "corpus")` computes the run and reads that table.
#
# </details>

# %% gap=["corpora"]
# TODO: `corpora`, a dictionary from each of `temperatures` to the
# documents sampled at it, a table.
corpora = {t: s.frame(s.plan.corpus(source, t, seed), "corpus") for t in temperatures}

# %%
print(checks.corpora(corpora, temperatures))

# %% [markdown]
# Read them, as they came. Nobody said this, and none of it is fact.

# %%
cold, own = (corpora[temperature] for temperature in temperatures)
sides = {"T = 0.5": cold["text"].head(6), "T = 1": own["text"].head(6)}
s.show(pd.DataFrame(sides))

# %% [markdown]
# ## Gap 2: variety
#
# Cold text repeats itself. Put a number on that: of all bigrams (pairs of neighbouring words), which
# share is distinct?

# %% [markdown]
# <details><summary>Hint: is there a function?</summary>
#
# `distinct(texts, size)` takes a list of texts and the size of the n-grams.
#
# </details>

# %% gap=["variety"]
# TODO: `variety`, a dictionary from each temperature to the share
# of distinct bigrams of its texts.
variety = {t: distinct(list(corpus["text"]), 2) for t, corpus in corpora.items()}

# %%
print(checks.variety(variety, corpora))

# %% [markdown]
# ## Gap 3: fidelity
#
# `mean_log_prob` says how likely the source itself finds a document, at its own temperature, in nats
# per token; `n_tokens` says how long it is. What is the mean over all *tokens* of a corpus?

# %% [markdown]
# <details><summary>Hint: why not simply <code>.mean()</code>?</summary>
#
# That is the mean over documents. In it a document of five tokens counts as much as one of fifty.
#
# </details>
# <details><summary>Hint: how to weight?</summary>
#
# Multiply each document's mean by its number of tokens, add up, and divide by all tokens.
#
# </details>

# %% gap=["fidelity"]
# TODO: `fidelity`, a dictionary from each temperature to the mean
# log-probability of its tokens.
fidelity = {
    t: (corpus["mean_log_prob"] * corpus["n_tokens"]).sum() / corpus["n_tokens"].sum()
    for t, corpus in corpora.items()
}

# %%
print(checks.fidelity(fidelity, corpora))

# %% [markdown]
# ## What came out

# %%
rows = {"distinct bigrams": variety, "mean log-probability": fidelity}
s.show(pd.DataFrame(rows).rename_axis("temperature").reset_index())

# %% [markdown]
# Write one sentence on the board: which of the two would you rather learn from, and why?
#
# ## Another voice
#
# The same at temperature 1, from the model of the other family. Nobody gave it a topic either.

# %%
voices = {source: own, other: s.frame(s.plan.corpus(other, 1.0, seed), "corpus")}
s.show(pd.DataFrame({name: corpus["text"].head(6) for name, corpus in voices.items()}))

# %% [markdown]
# ## Where this comes from

# %%
s.footer(*(s.plan.corpus(source, t, seed) for t in temperatures))

# %% [markdown]
# ## If there is time
#
# - Sample at a temperature of 2. At what point does it stop being language?
# - How many documents did each source end by itself, before the length limit? See `finished`.
