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
# The ways of one contest took turns on one machine, with the same weights and inputs, so ratios mean
# more than rates. Weights are random, and end a document at one token in fifty. Accelerators, other
# processors and larger models will differ: `make bench` measures yours.

# %%
from nbutils.charts import speed
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("speed", globals())
found = s.measured(speed.MEASURED)

# %% [markdown]
# ## The machine
#
# Its ceilings are the rate of a large matrix product, and of copying a large tensor.

# %%
s.show(speed.machine(found))

# %% [markdown]
# ## Throughput
#
# The chart shows medians over repeats, with the lowest and the highest. Sampled tokens are those that
# stay in documents; `generate` also computes what follows the end of a document while others go on.

# %% mystnb={"figure": {"name": "fig-speed", "caption": "Throughput over batch size and over model size, one line per way, with the range over repeats; both axes are logarithmic."}}
measured = speed.rows(found)
speed.throughput(measured)

# %% [markdown]
# ## In numbers
#
# The ratio is to the first way of each contest. The share of the ceiling counts two operations for each
# weight that a token must meet, six in training.

# %%
s.show(speed.speed_table(measured))

# %% [markdown]
# ## How time grows
#
# Time against amount, both logarithmic: the slope is one where twice the amount takes twice the time.
# Over work, the amount is batches of documents, training steps, or items. Over a batch, the time is
# that of one batch: a slope below one says that larger batches are worth their memory. Over weights,
# it is the time of one token or item.

# %%
s.show(speed.exponents(found).round(2))

# %% [markdown]
# ## What is behind the chart

# %%
s.note(speed.description(found))

# %% [markdown]
# ## Try it
#
# ```
# make bench
# nbutils notebook speed
# ```
#
# - From which batch on does sampling no longer gain? What is the bottleneck then?
# - Why is the share of the ceiling higher for larger models?
