# %% [markdown]
# # Prepare benchmarks
#
# **Stage: tasks of lm-eval, by their names, become rows that lie in the store, at one version of their data.**
#
# ## What you will learn
#
# - which benchmarks measure the utility of pretrained models here;
# - which version of the data the items come from;
# - why the scores are those that lm-eval's own command line gives.
#
# ## What this notebook establishes, and what it does not
#
# It shows items that others wrote, unchanged. It cannot show that a pretrained model has never read
# them: benchmarks are on the web, and so is training text. A gain is measured against the same
# student before training, so what it had read before counts on both sides.

# %%
from nbutils.charts import prepare_benchmarks
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "smol"  # scale: a file under notebooks/tiers/

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("prepare_benchmarks", globals())

# %% [markdown]
# ## The tasks
#
# A tier names its tasks, how many items of each it asks for, and where the rows come from: the hub, or
# a package that is pinned like all others. The revision of a hub's dataset is found when it is
# downloaded; the rows lie in the run from then on.

# %%
run = s.own(s.plan.suite())
texts = s.record(run, "texts")
s.show(prepare_benchmarks.tasks(s.record(run, "tasks"), texts))

# %% [markdown]
# ## One item of each task
#
# Each item as lm-eval builds it from a row: the question, then the right answer. A model scores the
# right answer against the wrong ones, each behind the same question.

# %%
s.show(prepare_benchmarks.examples(texts))

# %% [markdown]
# ## How it is done
#
# The code draws the items with a seed from the split that lm-eval evaluates: the test split where there
# is one, else the validation split. It writes the rows down and reads them back through lm-eval, which
# must find the same rows. Prompt, choices and metric stay lm-eval's own, so its scores are the published
# kind of scores, on these rows.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - Other tasks: name them under `benchmarks.tasks` in a copy of `notebooks/tiers/smol.yml`. With
#   `data: hub`, every task of lm-eval that has choices or an exact answer can be taken.
# - How many items does a tier need to see a gain of one point? *How sure* answers that.
