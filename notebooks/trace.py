# %% [markdown]
# # Trace a fine-tune
#
# **Stage: a student is fine-tuned once more, and measured on the way.**
#
# ## What you will learn
#
# - how utility and extraction change from step to step, not only from beginning to end;
# - which of the two moves first;
# - why measuring on the way does not change the training.
#
# ## What this notebook establishes, and what it does not
#
# It follows one fine-tune of one pairing with one seed. A tier may measure on a part of the suite, so the
# intervals are wider than those of *Measure utility*. What several trajectories have in common is asked
# in *Trajectories*.

# %%
from nbutils.charts import trace
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
seed: int = 0  # seed of sampling and of fine-tuning
points: list = []  # steps after which to measure; the tier's own if empty

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("trace", globals())

# %% [markdown]
# ## Two curves
#
# Above, the change of accuracy on the suite since step 0, which is the untouched student. Below, the share
# of held-out passages that greedy decoding reproduces exactly. Upright lines are 95 % intervals.

# %%
run = s.plan.trace(s.pairing, points)
rows = trace.by_step(s.frame(run, "utility"), s.frame(run, "extraction"))
trace.curves(rows, run.labels["relation"])

# %% [markdown]
# The same numbers. Gains are paired item by item with step 0; shares have exact intervals.

# %%
s.show(trace.table(rows))

# %% [markdown]
# ## The training
#
# Always in all weights, with the recipe of the tier. The last point is the model that *Self-train*
# saves.

# %%
s.say([f"{s.pairing}: {run.labels['relation']}, {run.params.recipe.steps} steps."])

# %% [markdown]
# ## How it is done
#
# The code is the training of *Self-train* with a watcher: after each chosen step it pauses the training,
# scores the model on the suite and on the passages, and goes on. Measuring draws no random number and
# leaves the weights alone, so the training goes on as if nobody had looked.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - Look more closely at the beginning: `nbutils notebook trace -p points "[1, 2, 3, 4]"`. After how many
#   steps is half of the passages lost?
# - A stranger's text: `nbutils notebook trace -p source llama-large`. Which curve falls first?
