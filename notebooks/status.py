# %% [markdown]
# # Status
#
# **The question.** What ran to make this book: when, where, for how long, and with which versions?
#
# ## What you will learn
#
# - which tiers stand behind the pages, and whose runs they are;
# - what each stage took;
# - which versions of which libraries computed.
#
# ## What this notebook establishes, and what it does not
#
# It repeats the manifests that runs leave behind. A manifest says how a run was made; that it can be made
# again is for you to try. The book is not built when a table has a row of a run without a manifest, or
# when an executed page has a cell that failed or was left out, or names only runs that no table has. A page
# that nobody executed says so under its title.

# %%
from nbutils.notebooks import session
from nbutils.results import history

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("status", globals())

# %% [markdown]
# ## Tier by tier
#
# A commit that is marked *changed* had edits that no commit holds. What others computed stands apart, as
# *contributed*.

# %%
s.show(history.tiers(s.manifests))

# %% [markdown]
# ## Stage by stage
#
# Runs go side by side, so a tier may have taken less time than its runs together. A stage's `version`
# is raised when its results change, and for nothing else; version zero is from before there were versions. Where it
# is not the version *of today*, the numbers stand as they were measured then. A pairing computed now
# cannot be added to them, and running the tier computes that stage again.

# %%
s.show(history.stages(s.manifests))

# %% [markdown]
# ## The longest runs

# %%
s.show(history.longest(s.manifests))

# %% [markdown]
# ## Versions

# %%
s.show(history.versions(s.manifests))

# %% [markdown]
# ## Try it
#
# ```
# nbutils status          # what is done and missing on this machine
# nbutils verify tiny     # is a published tier as it was published?
# ```
#
# - Which stage would you make faster first?
# - Does your run of a tier have other versions than the published one? Do its gains differ?
