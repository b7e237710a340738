# %% [markdown]
# # How fast
#
# **The question.** What does the protocol cost here, beside what one would otherwise run?
#
# ## What you will learn
#
# - how sampling, fine-tuning and scoring compare with `generate`, `Trainer` and lm-eval;
# - how throughput grows with the batch and falls with the size of the model;
# - how far each is from what the machine can do at all.
#
# ## What this notebook establishes, and what it does not
#
# Ways of one contest took turns on one machine, with the same weights and inputs, so ratios mean
# more than rates. Weights are random, and end a document at one token in fifty. Accelerators, other
# processors and larger models will differ: `make bench` measures yours.

# %%
from nbutils.charts import parts, provenance, speed
from nbutils.charts.tables import table
from nbutils.config import notebook_parameters
from nbutils.results import tables as results_tables

parts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %%
project = notebook_parameters.given(notebook_parameters.TablesNotebook, globals()).root
found = results_tables.measured(speed.MEASURED, project)
measured = speed.rows(found)

# %% [markdown]
# ## The machine
#
# Its ceilings are the rate of a large matrix product, and of copying a large tensor.

# %%
table(speed.machine(found))

# %% [markdown]
# ## Throughput
#
# Medians over repeats, with the lowest and the highest. Sampled tokens are those that documents keep;
# `generate` also computes what follows the end of a document while others go on.

# %% mystnb={"figure": {"name": "fig-speed", "caption": "Throughput over batch size and over model size, one line a way, with the range over repeats; both axes are logarithmic."}}
speed.throughput(measured)

# %% [markdown]
# ## In numbers
#
# The ratio is to the first way of each contest. The share of the ceiling counts two operations for each
# weight that a token must meet, six in training.

# %%
table(speed.speed_table(measured))

# %% [markdown]
# ## How time grows
#
# Time against amount, both logarithmic: the slope is one where twice the amount takes twice the time.
# Over work: batches of documents, training steps, items. Over a batch: the time of one batch, below
# one where larger batches are worth their memory. Over weights: the time of one token or item.

# %%
table(speed.exponents(found).round(2))

# %% [markdown]
# ## What is behind the chart

# %%
provenance.note(speed.description(found))

# %% [markdown]
# ## Try it
#
# ```
# make bench
# nbutils notebook speed
# ```
#
# - At which batch does sampling stop to gain? What is the bottleneck then?
# - Why is the share of the ceiling higher for larger models?
