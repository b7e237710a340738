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

import pandas as pd

from nbutils.charts import parts, provenance, tables
from nbutils.config import notebook_parameters, tiers
from nbutils.protocol.plan import load_plan
from nbutils.runs import executor
from nbutils.runs.store import Store

parts.enable()

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
values = notebook_parameters.given(notebook_parameters.ProxyNotebook, globals())
root = tiers.project_root()
plan = load_plan(values.tier, root)
store = Store(root)

# %% [markdown]
# ## The proxies
#
# Similarity is the cosine between the mean embedding of the corpus and that of a task's items. The
# log-likelihood is the mean over the corpus, in nats per token of the untouched student.

# %%
run = plan.proxies(source, student, temperature, seed)
folder = executor.compute(run, plan, root)
proxies = pd.read_parquet(folder / "proxies.parquet")
print("sentence encoder installed:", plan.encoder)

# %% [markdown]
# ## Semantic similarity, task by task

# %%
similarity = proxies[proxies.task.notna()].pivot(index="task", columns="proxy", values="value")
tables.table(similarity.reset_index())

# %% [markdown]
# ## Log-likelihood
#
# A student finds its own text likely, which is why this proxy looks so natural.

# %%
likelihood = proxies.loc[proxies.proxy == "log_likelihood", "value"].item()
print(f"{likelihood:.3f} nats per token, perplexity {math.exp(-likelihood):.1f}")

# %% [markdown]
# ## The same student, every source
#
# Every corpus at this temperature, scored for this student.

# %%
rows = []
for other in plan.tier.models:
    path = executor.compute(plan.proxies(other, student, temperature, seed), plan, root)
    values = pd.read_parquet(path / "proxies.parquet").groupby("proxy").value.mean()
    rows.append({"source": other, "relation": plan.tier.relation(other, student), **values})
tables.table(pd.DataFrame(rows))

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - another student: `nbutils notebook measure_proxies -p student qwen-small -p source qwen-small`
# - before you look at *Proxies fail*: which source would you choose from this table, and why?
