# %% [markdown]
# # One pairing
#
# **One question.** Does this student gain from text of this source?
#
# ## What you will learn
#
# - how to give the protocol a source and a student of your own, and a budget;
# - what the whole chain says of them: gain, proxies, diagnostics, extraction, samples;
# - what it cost, and which runs it is made of.
#
# ## What this notebook establishes, and what it does not
#
# It reports one pairing with one seed. Whether its relation matters takes the other relations beside
# it, and its intervals speak about other items, not about other seeds: that is what a tier is for.

# %%

import pandas as pd

from nbutils.analysis.gains import paired
from nbutils.charts import losses, provenance, tables
from nbutils.charts.pairing import cost, extraction, gain_sentence, gain_table, scores
from nbutils.charts.parts import enable
from nbutils.config import notebook_parameters, tiers
from nbutils.protocol import cost_card, reading
from nbutils.protocol.pairing import asked
from nbutils.runs import executor
from nbutils.runs.store import Store

enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # a model of the tier, or an origin: hub:, folder:, gguf:, wheel:
student: str = "neox-small"  # likewise
temperature: float = 1.0  # sampling temperature
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning
tokens: int = 0  # corpus tokens; the tier's own if 0
steps: int = 0  # fine-tuning steps; the tier's own if 0
tasks: list = []  # lm-eval tasks; the tier's own if empty

# %%
values = notebook_parameters.given(notebook_parameters.ReportNotebook, globals())
root = tiers.project_root()
plan, cell = asked(values, root)
relation = plan.tier.relation(cell.source, cell.student)
print(f"{cell}: {relation}")

# %% [markdown]
# ## What it will cost
#
# Before anything is spent. What exists is reused and costs nothing.

# %%
store = Store(root)
missing = [run for run in plan.report(cell) if store.finished(run) is None]
card = cost_card.card(missing, plan, root, workers=1)
tables.table(cost_card.rows(card))

# %%
tables.sentences(cost_card.sentences(card))

# %% [markdown]
# ## How the two are read
#
# Computing takes shortcuts, such as several documents in one row. Each was compared with the plain
# way on the model itself when it was made or fetched; where it differs, the plain way is taken.

# %%
parts = dict.fromkeys([cell.student, cell.source])
folders = {name: executor.compute(plan.model(name), plan, root) for name in parts}
tables.sentences(line for name, folder in folders.items() for line in reading.read_as(name, folder))

# %% [markdown]
# ## The corpus
#
# Documents sampled from BOS alone, as they came: unreliable text that nobody said.

# %%
corpus_run = plan.read_corpus(cell)
corpus = pd.read_parquet(executor.compute(corpus_run, plan, root) / "corpus.parquet")
print(
    f"{len(corpus)} documents, {corpus.n_tokens.sum()} tokens, finished {corpus.finished.mean():.0%}"
)
tables.table(corpus[["text"]].head(5))

# %% [markdown]
# ## Did the student read?

# %%
trained = plan.self_train(cell)
losses.loss_curve(pd.read_parquet(executor.compute(trained, plan, root) / "curve.parquet"))

# %% [markdown]
# ## The gain, task by task
#
# In percentage points, paired item by item, with intervals over other items. A task that defines both
# metrics of lm-eval, `acc` and `acc_norm`, has a row by each, the one of published tables first. The
# suite's mean uses `acc`.

# %%
measured = [plan.utility(cell.student), plan.utility(cell.student, cell)]
before, after = (
    pd.read_parquet(executor.compute(run, plan, root) / "utility.parquet") for run in measured
)
gains = paired(before, after)
tables.table(gain_table(gains))

# %%
tables.sentences([gain_sentence(gains, str(cell))])

# %% [markdown]
# ## What would have been predicted
#
# Proxies and diagnostics of this corpus for this student. A number alone predicts nothing: compare it
# with that of another source.

# %%
pairing = (cell.source, cell.student, cell.temperature, cell.seed)
proxies = pd.read_parquet(executor.compute(plan.proxies(*pairing), plan, root) / "proxies.parquet")
diagnostics = pd.read_parquet(
    executor.compute(plan.diagnose(*pairing), plan, root) / "diagnostics.parquet"
)
tables.table(scores(proxies, diagnostics))

# %% [markdown]
# ## What is still extracted
#
# Passages whose suffix greedy decoding reproduces exactly, before and after.

# %%
counted = {}
if plan.has_passages(cell.student):
    counted = {
        "before": plan.extraction(cell.student), "after": plan.extraction(cell.student, cell)
    }  # fmt: skip
found = {
    moment: pd.read_parquet(executor.compute(run, plan, root) / "extraction.parquet")
    for moment, run in counted.items()
}
tables.table(extraction(found))

# %% [markdown]
# ## What it cost

# %%
done = [store.finished(run) for run in plan.report(cell)]
tables.table(cost(done))

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs(plan.report(cell), tier, store)

# %% [markdown]
# ## Try it
#
# - another source for the same student: everything that does not depend on it is reused;
# - `nbutils notebook pairing -p method lora`, or a lower temperature.
