# %% [markdown]
# # Self-train a student
#
# **Stage: a student is fine-tuned on a corpus, in all its weights or through a LoRA adapter.**
#
# ## What you will learn
#
# - what the student sees: documents between BOS and EOS, packed without attention across them;
# - how its loss moves on text by itself and by others;
# - how far its weights move.
#
# ## What this notebook establishes, and what it does not
#
# It shows one fine-tune and its loss on the corpus. A falling loss says that the student learns
# the corpus. Whether that is of use is measured on the benchmark suite, not here.

# %%
import pandas as pd

from nbutils.charts import losses, parts, provenance, tables
from nbutils.config import design, notebook_parameters, tiers
from nbutils.protocol import models
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
# ## The cell of the grid
#
# A pairing, a temperature, a method and a seed name one cell. The relation is computed from the registry.

# %%
cell = design.Pairing(source, student, temperature, method, seed)
run = plan.self_train(cell)
print(cell, "·", run.labels["relation"])
pd.Series(run.params.model_dump()["recipe"], name="recipe").to_frame()

# %% [markdown]
# ## Training
#
# The corpus is text, so the student reads it with its own tokenizer. The same number of steps and of
# tokens in a step goes to every cell of a tier.

# %%
folder = executor.compute(run, plan, root)
curve = pd.read_parquet(folder / "curve.parquet")
losses.loss_curve(curve)

# %% [markdown]
# On its own text a student has little to learn: the loss starts near the entropy of its own samples, and
# has little room to fall. Compare it with another family's text.

# %%
first, last = curve.loss.iloc[:3].mean(), curve.loss.iloc[-3:].mean()
print(f"first steps: {first:.3f} nats per token, last steps: {last:.3f}")

# %% [markdown]
# ## How far the weights moved
#
# The norm of the update, relative to the norm of the weights it changed. An equally large random step
# is the natural control.

# %%
before, _ = models.load(store.path(run.inputs["student"]), store.path(run.inputs["student"]))
after, _ = models.load(folder, store.path(run.inputs["student"]))
old, new = dict(before.named_parameters()), dict(after.named_parameters())
moved = sum((new[n] - w).norm().item() ** 2 for n, w in old.items()) ** 0.5
size = sum(w.norm().item() ** 2 for w in old.values()) ** 0.5
print(f"relative update: {moved / size:.4f}")

# %% [markdown]
# ## What was written
#
# Weights are safetensors, never pickles.

# %%
tables.table(
    pd.DataFrame(
        [{"file": p.name, "KiB": p.stat().st_size / 1024} for p in sorted(folder.iterdir())]
    ),
    digits=1,
)

# %% [markdown]
# ## Where this comes from

# %%
provenance.footer_of_runs([run], tier, store)

# %% [markdown]
# ## Try it
#
# - the same student on foreign text: `nbutils notebook self_train -p source llama-large`
# - an adapter instead: `nbutils notebook self_train -p method lora`; compare the sizes of the files
