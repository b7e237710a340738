# %% [markdown]
# # Measure utility
#
# **Stage: a model answers the benchmark suite, item by item, through lm-eval.**
#
# ## What you will learn
#
# - what an item of each kind looks like;
# - how an answer is scored: by the log-likelihood of the choices;
# - how the gain of one student is paired, item by item, with its untouched self.
#
# ## What this notebook establishes, and what it does not
#
# It measures one cell against its untouched student on one suite. The interval covers the sampling
# of items, not of seeds.

# %%
import pandas as pd

from nbutils.analysis import gains
from nbutils.charts import pairing, parts, provenance, tables
from nbutils.config import design, notebook_parameters, tiers
from nbutils.protocol import prepare_suite
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
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
values = notebook_parameters.given(notebook_parameters.PairingNotebook, globals())
root = tiers.project_root()
plan = load_plan(values.tier, root)
store = Store(root)

# %% [markdown]
# ## The suite
#
# Items that the scratch tiers cut for themselves come from held-out works of every domain. A document
# of which any run of words occurs in training text is left out.

# %%
suite_folder = executor.compute(plan.suite(), plan, root)
texts = prepare_suite.texts(suite_folder)
tables.table(pd.DataFrame([{"task": t, "items": len(found)} for t, found in texts.items()]))

# %% [markdown]
# The first item of every task, its end with the right answer.

# %%
tables.table(pd.DataFrame([{"task": t, "item": "…" + i[0][-160:]} for t, i in texts.items()]))

# %% [markdown]
# ## Scoring
#
# The task files beside the items are lm-eval's own format, so its command line gives the same answers.

# %%
cell = design.Pairing(source, student, temperature, method, seed)
run = plan.utility(student, cell)
after = pd.read_parquet(executor.compute(run, plan, root) / "utility.parquet")
before = pd.read_parquet(executor.compute(plan.utility(student), plan, root) / "utility.parquet")
after.head()

# %% [markdown]
# What a guess gets right, beside what the student gets right before and after. `acc` takes the choice
# of the highest log-likelihood, `acc_norm` that of the highest log-likelihood per character. A
# task that defines both has a row by each, the one of published tables first. The suite's mean and
# every verdict use `acc`.

# %%
table = pairing.gain_table(gains.paired(before, after))
tables.table(table[["task", "items", "chance", "base_accuracy", "accuracy"]])

# %% [markdown]
# ## Gain, paired item by item
#
# An item that both get right, or both get wrong, says nothing about the change. Only the others do.

# %%
both = before.merge(after, on=["task", "item"], suffixes=("_before", "_after"))
change = both.correct_after.astype(int) - both.correct_before.astype(int)
print(change.map({1: "won", 0: "unchanged", -1: "lost"}).value_counts().to_dict())

# %% [markdown]
# Per task, and for the suite as the unweighted mean over its tasks, with 95 % bootstrap intervals.

# %%
tables.table(table[["task", "gain (points)"]])

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - another pairing: `nbutils notebook measure_utility -p source neox-large`
# - the same items by lm-eval's command line: see *Re-execute*.
