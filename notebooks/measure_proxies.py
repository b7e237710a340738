# %% [markdown]
# # Measure proxies
#
# **Stage: a corpus is scored by what is said to predict its gain.**
#
# ## What you will learn
#
# - how benchmark-level semantic similarity is computed, with a sentence encoder and with TF-IDF;
# - how likely a student finds a corpus;
# - why a proxy must be judged by the gain, not by its plausibility.
#
# ## What this notebook establishes, and what it does not
#
# It computes the proxies of one corpus for one student. Whether they predict the gain is asked in
# *Proxies fail*, over all pairings.

# %%
import math

from nbutils.charts import pairing
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("measure_proxies", globals())

# %% [markdown]
# ## Semantic similarity
#
# The cosine between the mean embedding of the corpus and the mean embedding of a task's items, per task.
# `semantic_minilm` takes a sentence encoder, and is there where its package is installed;
# `semantic_tfidf` takes weighted counts of words.

# %%
run = s.plan.proxies(source, student, temperature, seed)
proxies = s.frame(run, "proxies")
similarity = proxies[proxies.task.notna()].pivot(index="task", columns="proxy", values="value")
s.show(similarity.reset_index())

# %% [markdown]
# ## Log-likelihood
#
# The mean over the corpus, per token of the untouched student. A student finds its own text likely,
# which is why this proxy looks so natural.

# %%
likelihood = proxies.loc[proxies.proxy == "log_likelihood", "value"].item()
s.say([f"{likelihood:.3f} nats per token: a perplexity of {math.exp(-likelihood):.1f}."])

# %% [markdown]
# ## The same student, every source
#
# Every corpus at this temperature, scored for this student. A similarity is the mean over tasks.

# %%
s.show(pairing.by_source(s.over_sources(s.plan.proxies, "proxies"), "proxy"))

# %% [markdown]
# ## How it is done
#
# The code turns texts into vectors, takes the mean over the corpus and over the items of each task, and
# compares the two by their cosine. Words are weighted by their counts in the items, so the weights are
# the same for every corpus. The log-likelihood is minus the training loss of the untouched student.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - Another student: `nbutils notebook measure_proxies -p student qwen-small -p source qwen-small`. Is its
#   own corpus the likeliest to it?
# - Before you look at *Proxies fail*: which source would you choose from this table, and why?
