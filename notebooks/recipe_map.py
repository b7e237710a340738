# %% [markdown]
# # Recipe map
#
# **The question.** Where, if anywhere, is the gain of self-training positive? One recipe may be too
# timid or too rough.
#
# ## What you will learn
#
# - how learning rate, number of steps and kind of update change the gain of a self corpus;
# - what the same recipes do to extraction;
# - why many recipes need a correction before the best of them is believed.
#
# ## What this notebook establishes, and what it does not
#
# Every recipe is run once, for self pairings, and measured on a part of the suite, so intervals speak
# about other items alone. A map with no positive cell does not prove that there is none beyond its edges.

# %%
from nbutils.analysis import experiments
from nbutils.charts import parts, provenance, recipe_map
from nbutils.charts.tables import runs, sentences, table
from nbutils.config import notebook_parameters
from nbutils.results.tables import labels, load, manifests

parts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %%
project = notebook_parameters.given(notebook_parameters.TablesNotebook, globals()).root
print(labels(project))

# %% [markdown]
# ## The map
#
# Full fine-tuning, and low-rank adapters {cite:p}`hu2022lora` of several ranks. In {numref}`fig-recipes` a pale
# cell cannot be told from zero after correction for the number of cells. Under the gain stands
# by how much held-out extraction fell.

# %% mystnb={"figure": {"name": "fig-recipes", "caption": "Gain of self-training in percentage points over learning rate and steps, for full fine-tuning and for each LoRA rank, with intervals; pale cells cannot be told from zero."}}
gains = load("gains", project)
falls = load("falls", project)
rows = experiments.recipe_gains(experiments.with_memory(gains, falls))
recipe_map.recipe_map(rows)

# %% [markdown]
# ## The rule, before the result
#
# A recipe *gains*, or *loses*, when its p-value against zero is below the usual level after Holm's
# correction over all recipes of a tier.

# %%
counts = rows.groupby(["results", "student", "update", "effect"], as_index=False).size()
table(counts.rename(columns={"size": "recipes"}))

# %% [markdown]
# ## The best recipe of every student

# %%
table(recipe_map.best_recipes(rows))

# %% [markdown]
# ## Verdict

# %%
sentences(f"{row.results}: {row.answer}" for row in recipe_map.recipe_answer(rows).itertuples())

# %% [markdown]
# ## Runs behind this page

# %%
states = load("states", project)
provenance.footer(manifests(project), runs(states, "untouched", "recipes"))

# %% [markdown]
# ## Try it
#
# ```
# nbutils run lab
# nbutils notebook recipe_map
# ```
#
# - Which recipes forget without a loss that can be seen?
# - Along which edge of the map does the gain still rise? Extend `recipes` in the tier's file there.
