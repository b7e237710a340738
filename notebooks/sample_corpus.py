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
# It shows one corpus: what the source wrote, unselected. It does not judge whether the text is
# good for anything; that is the student's business, and the findings'.

# %%
import pandas as pd

from nbutils.charts import parts, provenance, tables
from nbutils.config import notebook_parameters, tiers
from nbutils.protocol.plan import load_plan
from nbutils.results import corpora
from nbutils.runs import executor
from nbutils.runs.store import Store

parts.enable()

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
values = notebook_parameters.given(notebook_parameters.CorpusNotebook, globals())
root = tiers.project_root()
plan = load_plan(values.tier, root)
store = Store(root)

# %% [markdown]
# ## Sampling
#
# All documents start together from BOS, and each one leaves the batch when it writes EOS. Logits are
# divided by the temperature; nothing else is done to the distribution.

# %%
run = plan.corpus(source, temperature, seed)
folder = executor.compute(run, plan, root)
corpus = pd.read_parquet(folder / "corpus.parquet")
print(f"{len(corpus):,} documents, {corpus.n_tokens.sum():,} tokens of the source")

# %% [markdown]
# ## What it wrote
#
# The first documents as they came. This is a model's text: nobody said it, and none of it is fact.

# %%
tables.table(corpus[["doc", "n_tokens", "finished", "mean_log_prob", "text"]].head(8), digits=2)

# %% [markdown]
# A document is *finished* when the source ended it by itself, before the length limit.

# %%
shares = {"finished": corpus.finished.mean(), "empty": (corpus.text.str.strip() == "").mean()}
tables.table(pd.DataFrame([shares]))

# %% [markdown]
# ## Variety and fidelity
#
# The share of distinct n-grams measures variety. The mean log-probability, in nats per token under the
# untempered source, measures how typical the text is of it.

# %%
texts = list(corpus.text)
variety = {f"distinct {n}-grams": corpora.distinct(texts, n) for n in (1, 2, 3)}
fidelity = (corpus.mean_log_prob * corpus.n_tokens).sum() / corpus.n_tokens.sum()
tables.table(pd.DataFrame([variety | {"mean log-probability": fidelity}]))

# %% [markdown]
# ## Passages in the corpus
#
# A corpus that holds planted passages would rehearse them. This counts the documents that hold the
# suffix of at least one.

# %%
if plan.has_passages(source):
    passages = pd.read_parquet(store.path(run.inputs["source"]) / "passages.parquet")
    hits = corpora.passage_hits(texts, list(passages.suffix_text))
    print(f"{hits} of {len(corpus):,} documents hold a passage's suffix ({hits / len(corpus):.2%})")

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - a colder corpus: `nbutils notebook sample_corpus -p temperature 0.7`; does the share of distinct
#   trigrams fall, and do more documents hold a passage?
# - another voice: `nbutils notebook sample_corpus -p source qwen-small`
