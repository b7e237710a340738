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
# about other items alone. A map without a positive recipe does not prove that there is none beyond its
# edges.

# %%
from nbutils.analysis import experiments
from nbutils.charts import recipe_map
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("recipe_map", globals())

# %% [markdown]
# ## The map
#
# It holds full fine-tuning, and low-rank adapters {cite:p}`hu2022lora` of several ranks. In
# {numref}`fig-recipes` the gain of a pale cell cannot be distinguished from zero after correction for
# the number of recipes. Below the gain stands by how much held-out extraction fell.

# %% mystnb={"figure": {"name": "fig-recipes", "caption": "Gain of self-training in percentage points over learning rate and steps, for full fine-tuning and for each LoRA rank, with intervals; pale cells cannot be distinguished from zero."}}
rows = experiments.recipe_gains(s.table("gains"), s.table("falls"))
recipe_map.recipe_map(rows)

# %% [markdown]
# ## The rule, before the result
#
# A recipe *gains*, or *loses*, when its p-value against zero is below the usual level after Holm's
# correction over all recipes of a tier.

# %%
s.show(recipe_map.counts(rows))

# %% [markdown]
# ## The best recipe of every student

# %%
s.show(recipe_map.best_recipes(rows))

# %% [markdown]
# ## Verdict

# %%
s.say(f"{row.results}: {row.answer}" for row in recipe_map.recipe_answer(rows).itertuples())

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("untouched", "recipes")

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
