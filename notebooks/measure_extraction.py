# %% [markdown]
# # Measure extraction
#
# **Stage: a model is prompted with the prefix of every planted passage; greedy decoding must reproduce the suffix exactly.**
#
# ## What you will learn
#
# - how exact-match extraction is defined;
# - how many passages the untouched student gives away;
# - what is left of them after self-training.
#
# ## What this notebook establishes, and what it does not
#
# It counts exact reproductions of passages that were planted in pre-training. A passage that is no
# longer reproduced may still be known in part; the matched tokens tell how much.

# %%
import pandas as pd

from nbutils.analysis import inference
from nbutils.charts import parts, provenance, tables
from nbutils.config import design, notebook_parameters, tiers
from nbutils.protocol import reading
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
# ## The passages
#
# The `dev` split is for making choices, the `held_out` split for reporting. A prompt is the prefix of a
# passage and nothing else, as for Pythia, whose training sequences began anywhere in a document; passages
# of models made here stand inside documents. Where a tokenizer from elsewhere begins every text with BOS,
# as Gemma's and Llama 3's do, every training sequence began with it, and so does the prompt.

# %%
base = executor.compute(plan.model(student), plan, root)
passages = pd.read_parquet(base / "passages.parquet")
first = passages.iloc[0]
print(passages.split.value_counts().to_dict())
print(f"{len(first.prefix)} tokens of prompt, {len(first.suffix)} tokens to reproduce")
tables.sentences(reading.read_as(student, base))

# %% [markdown]
# ## Before and after

# %%
cell = design.Pairing(source, student, temperature, method, seed)
run = plan.extraction(student, cell)
after = pd.read_parquet(executor.compute(run, plan, root) / "extraction.parquet")
before = pd.read_parquet(
    executor.compute(plan.extraction(student), plan, root) / "extraction.parquet"
)

# %% [markdown]
# Shares of exactly reproduced passages with exact binomial (Clopper-Pearson) intervals.

# %%
rows = []
for when, table in (("before", before), ("after", after)):
    held_out = table[table.split == "held_out"]
    low, high = inference.exact_interval(int(held_out.exact.sum()), len(held_out))
    rows.append([when, held_out.exact.sum(), len(held_out), held_out.exact.mean(), low, high])
columns = ["student", "extracted", "passages", "share", "low", "high"]
tables.table(pd.DataFrame(rows, columns=columns))

# %% [markdown]
# ## How far greedy decoding follows
#
# The number of leading suffix tokens that are right, passage by passage.

# %%
counts = pd.DataFrame({"before": before.matched_tokens, "after": after.matched_tokens})
tables.table(
    counts.apply(lambda c: c.value_counts())
    .fillna(0)
    .astype(int)
    .rename_axis("matched tokens")
    .reset_index()
)

# %% [markdown]
# ## A passage that was lost
#
# The prompt, the true suffix, and how much of it each student gives.

# %%
lost = passages.assign(before=before.matched_tokens, after=after.matched_tokens)
lost = lost[before.exact & ~after.exact & (passages.split == "held_out")]
tables.table(lost[["passage", "text", "suffix_text", "before", "after"]].head(5))

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - does another lineage member's text erase more? `nbutils notebook measure_extraction -p source
#   neox-large`
# - does an adapter erase less? `nbutils notebook measure_extraction -p method lora`
