# %% [markdown]
# # Prepare a model
#
# **Stage: a registry entry becomes weights, a tokenizer, a BOS policy and a list of planted passages.**
#
# ## What you will learn
#
# - which text a family reads, and how it is split so that nothing leaks;
# - why passages are planted in the middle of documents;
# - how good the pre-trained model is at continuing its own domain.
#
# ## What this notebook establishes, and what it does not
#
# It shows one model of a tier, pre-trained from scratch on real text that installed packages ship.
# Such a model is tiny: it speaks its domain's language without saying much. Whatever the book
# finds on it is a measurement of this scale, not of large models.

# %%
import json
import math

import pandas as pd

from nbutils.charts import losses, parts, provenance, tables
from nbutils.config import notebook_parameters, tiers
from nbutils.protocol import reading, text
from nbutils.protocol.plan import load_plan
from nbutils.results import collect
from nbutils.runs import executor
from nbutils.runs.store import Store

parts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
model: str = "neox-small"  # a model of the tier

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
values = notebook_parameters.given(notebook_parameters.ModelNotebook, globals())
root = tiers.project_root()
plan = load_plan(values.tier, root)
store = Store(root)

# %% [markdown]
# The model is a member of a *family*: same tokenizer, architecture and mixture of text. Its *lineage*
# holds the members that differ in size or seed.

# %%
run = plan.model(model)
pd.Series(run.params.model_dump(), name=model).to_frame()

# %% [markdown]
# ## The text
#
# Every work (a speech, an article, a chapter) belongs to one split, decided by its name alone. The
# model reads only the `train` split; benchmark items and passages come from works it never sees.

# %%
documents = pd.DataFrame(
    {"domain": domain, "split": d.split, "characters": len(d.text)}
    for domain in text.DOMAINS
    for d in text.documents(domain, plan.tier.max_chars)
)
tables.table(documents.groupby(["domain", "split"], as_index=False).sum())

# %% [markdown]
# The text stays its authors'; this is where it comes from and on what terms it is shown.

# %%
sources = [[d.title, d.package, d.licence] for d in text.DOMAINS.values()]
tables.table(pd.DataFrame(sources, columns=["text", "package", "licence"]))

# %% [markdown]
# ## Pre-training
#
# The run is computed now, or found: a run that exists is never computed twice. A model from elsewhere
# is fetched and not trained; what its authors did not publish is missing in the table.

# %%
folder = executor.compute(run, plan, root)
facts = json.loads((folder / "facts.json").read_text("utf-8"))
tables.table(pd.DataFrame([{name: facts[name] for name in collect.FACTS}]), digits=4)

# %% [markdown]
# The loss is the mean cross-entropy in nats per token, before each update. It starts near the logarithm
# of the vocabulary's size, where every token is equally likely.

# %%
vocabulary = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
print(f"log of the vocabulary: {math.log(vocabulary):.2f} nats")
curve = folder / "curve.parquet"
(
    losses.loss_curve(pd.read_parquet(curve))
    if curve.is_file()
    else tables.sentences([f"{model} was trained elsewhere: its losses are not known."])
)

# %% [markdown]
# ## The passages
#
# A passage planted at the start of documents would follow BOS, and sampling from BOS would write it out
# again. So each one stands between two sentences of a document, over and over, in different documents.
# For a model from elsewhere the passages are of a text that it is likely to have read.

# %%
columns = ["passage", "split", "work", "text"]
passages = pd.DataFrame(columns=columns)
if plan.has_passages(model):
    passages = pd.read_parquet(folder / "passages.parquet")
print(passages.split.value_counts().to_dict())
tables.table(passages[columns].head(5))

# %% [markdown]
# ## How the model is read
#
# Sampling, fine-tuning and measuring must agree on the token that begins a document, and on who adds it.
# And computing takes shortcuts: several documents in one row, requests that share what they begin with, a
# memory of what was read. Each was compared with the plain way on this very model.

# %%
tables.sentences(reading.read_as(model, folder))

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - another member: `nbutils notebook prepare_model -p model qwen-large`
# - how much of the training text is planted? Compare `planted_share` with the exposures in
#   `notebooks/tiers/tiny.yml`, halve them, and see how many passages survive in
#   `measure_extraction`.
