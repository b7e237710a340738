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

from nbutils import charts, costs, forms, grid, pairings, reports, runs, summaries

charts.enable()

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
values = forms.given(forms.ReportNotebook, globals())
root = runs.project_root()
plan, cell = pairings.asked(values, root)
relation = plan.tier.relation(cell.source, cell.student)
print(f"{cell}: {relation}")

# %% [markdown]
# ## What it will cost
#
# Before anything is spent. What exists is reused and costs nothing.

# %%
store = runs.Store(root)
missing = [run for run in plan.report(cell) if store.finished(run) is None]
card = costs.card(missing, plan, root, workers=1)
charts.table(costs.rows(card))

# %%
charts.said(costs.sentences(card))

# %% [markdown]
# ## How the two are read
#
# Computing takes shortcuts, such as several documents in one row. Each was compared with the plain
# way on the model itself when it was made or fetched; where it differs, the plain way is taken.

# %%
parts = dict.fromkeys([cell.student, cell.source])
folders = {name: grid.compute(plan.model(name), plan, root) for name in parts}
charts.said(line for name, folder in folders.items() for line in reports.read_as(name, folder))

# %% [markdown]
# ## The corpus
#
# Documents sampled from BOS alone, as they came: unreliable text that nobody said.

# %%
corpus_run = plan.read_corpus(cell)
corpus = pd.read_parquet(grid.compute(corpus_run, plan, root) / "corpus.parquet")
print(
    f"{len(corpus)} documents, {corpus.n_tokens.sum()} tokens, finished {corpus.finished.mean():.0%}"
)
charts.table(corpus[["text"]].head(5))

# %% [markdown]
# ## Did the student read?

# %%
trained = plan.self_train(cell)
charts.loss_curve(pd.read_parquet(grid.compute(trained, plan, root) / "curve.parquet"))

# %% [markdown]
# ## The gain, task by task
#
# In percentage points, paired item by item, with intervals over other items. A task that defines both
# metrics of lm-eval, `acc` and `acc_norm`, has a row by each, the one of published tables first. The
# suite's mean uses `acc`.

# %%
measured = [plan.utility(cell.student), plan.utility(cell.student, cell)]
before, after = (
    pd.read_parquet(grid.compute(run, plan, root) / "utility.parquet") for run in measured
)
gains = summaries.paired(before, after)
charts.table(reports.gain_table(gains))

# %%
charts.said([reports.gain_sentence(gains, str(cell))])

# %% [markdown]
# ## What would have been predicted
#
# Proxies and diagnostics of this corpus for this student. A number alone predicts nothing: compare it
# with that of another source.

# %%
pairing = (cell.source, cell.student, cell.temperature, cell.seed)
proxies = pd.read_parquet(grid.compute(plan.proxies(*pairing), plan, root) / "proxies.parquet")
diagnostics = pd.read_parquet(
    grid.compute(plan.diagnose(*pairing), plan, root) / "diagnostics.parquet"
)
charts.table(reports.scores(proxies, diagnostics))

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
    moment: pd.read_parquet(grid.compute(run, plan, root) / "extraction.parquet")
    for moment, run in counted.items()
}
charts.table(reports.extraction(found))

# %% [markdown]
# ## What it cost

# %%
done = [store.finished(run) for run in plan.report(cell)]
charts.table(reports.cost(done))

# %% [markdown]
# ## Where this comes from

# %%
charts.made_by(plan.report(cell), tier, store)

# %% [markdown]
# ## Try it
#
# - another source for the same student: everything that does not depend on it is reused;
# - `nbutils notebook pairing -p method lora`, or a lower temperature.
