# %% [markdown]
# # How sure
#
# **The question.** Every gain in this book has an interval and every verdict rests on one. Do the
# intervals hold the truth as often as they say, and how small a gain would be found?
#
# ## What you will learn
#
# - what is resampled, and why documents and seeds rather than items alone;
# - how often intervals hold a truth that is known because the world was made up;
# - how the detectable gain relates to the power of the test.
#
# ## What this notebook establishes, and what it does not
#
# The worlds here are made up: a known gain, items that come in documents, seeds that differ. They check
# the arithmetic and its assumptions, not the models. Nor do they say how much the seeds of real models
# differ.

# %%
from nbutils.analysis import power
from nbutils.charts import how_sure
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."
worlds: int = 200  # made-up worlds for each number; more take longer

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("how_sure", globals())
print(how_sure.description(worlds))

# %% [markdown]
# ## What is resampled
#
# Two things would differ if a gain were measured again: other items would be asked, and other seeds
# would sample and train.
#
# - **Items** are cut from documents, several from one, so documents are resampled whole
#   {cite:p}`efron1979bootstrap`. Every model answers the same items, so one set of resampled documents
#   serves all models, and whatever is a difference of accuracies is the same difference of their
#   resampled means.
# - **Seeds** are too few to be resampled as they are. The variance between them, less what the items add
#   to it, is estimated and added, and the interval is stretched as Student's is for so few.
#
# ## Do intervals hold the truth?

# %%
s.show(power.coverages(worlds))

# %% [markdown]
# `low` and `high` limit what so many worlds can say about the share.
#
# ## What gain would be found?
#
# The *detectable* gain of a pairing is computed from its own uncertainty. If it is right, a true gain of
# that size is found with the promised power, and a true gain of zero as rarely as the level
# says.

# %% mystnb={"figure": {"name": "fig-power", "caption": "How often a gain is found, against its size in multiples of the detectable gain, with intervals over the worlds. The dashed lines cross at the promised power."}}
curve = power.power([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5], worlds)
how_sure.power_curve(curve)

# %% [markdown]
# The same in numbers:

# %%
s.show(curve.rename(columns={"multiple": "multiple of the detectable gain"}))

# %% [markdown]
# ## The detectable gains of this book
#
# The median and the largest detectable gain of the suite, in points, for every tier and experiment.

# %%
s.show(how_sure.detectable(s.table("gains")), digits=2)

# %% [markdown]
# ## What is behind the chart

# %%
s.note(f"{worlds} made-up worlds for each number; no run of a model is behind the chart")

# %% [markdown]
# ## Try it
#
# ```
# nbutils notebook how_sure -p worlds 1000
# ```
#
# - By what factor must the items grow to halve the detectable gain of a pairing?
# - Which would you rather have, twice the items or twice the seeds?
