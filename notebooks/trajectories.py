# %% [markdown]
# # Trajectories
#
# **The question.** Utility and extraction change along fine-tuning, not at its end. Is there a step
# at which a student has forgotten what it memorised and has not yet lost what it can do?
#
# ## What you will learn
#
# - how utility and extraction move step by step, for self, lineage and cross-family text;
# - what the frontier between the two looks like for each student;
# - what a stopping rule is worth that was chosen on other passages than it is judged by.
#
# ## What this notebook establishes, and what it does not
#
# Each trajectory is one fine-tune with one seed, measured on the way on a part of the suite. So its
# intervals are wider than those of the pairings, and speak about other items alone. A frontier of one
# recipe is not the best that any recipe could reach.

# %%
from nbutils.analysis import experiments
from nbutils.charts import trajectories
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("trajectories", globals())

# %% [markdown]
# ## The frontier
#
# In {numref}`fig-frontier` a student starts at a gain of zero with all it memorised. A good path
# leads straight down: forgetting at no cost. A path to the left pays in utility. The ring marks where
# the stopping rule below would stop.

# %% mystnb={"figure": {"name": "fig-frontier", "caption": "Change of utility against held-out extraction along fine-tuning, one line per relation, with intervals; rings mark the stopping rule. Below, both over the steps."}}
gains, falls = s.table("gains"), s.table("falls")
stops = experiments.stopping_rule(falls, gains)
trajectories.frontier(experiments.trajectories(gains, falls), stops)

# %% [markdown]
# ## The rule, before the result
#
# Stop at the first measured step after which no passage of the *dev* split is extracted any more, or
# at the last step where some always are. The choice looks at nothing but the dev passages. What
# stopping there brings is then read off the *held-out* passages and the suite. Students that extract
# no dev passage before training have nothing to choose by.
#
# The verdict asks both parts of the decoupling claim of the stopping step, by the same thresholds.
# Each trajectory is judged by its own intervals, without correction.

# %%
s.show(trajectories.rule())

# %% [markdown]
# Where each trajectory stops, and what that brings:

# %%
s.show(trajectories.stops_table(stops))

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("untouched", "trajectories")

# %% [markdown]
# ## Try it
#
# ```
# nbutils run lab
# nbutils notebook trajectories
# ```
#
# - Which relation forgets first, and which pays first?
# - Would a rule that looks at the loss curve alone have stopped at the same step?
