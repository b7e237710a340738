# %% [markdown]
# # Prepare the suite
#
# **Stage: held-out text of every domain becomes benchmark items of three kinds, as task files of lm-eval.**
#
# ## What you will learn
#
# - what an item of each kind asks, and what a guess would get;
# - how the wrong choices are made;
# - how text that a model has read is kept out.
#
# ## What this notebook establishes, and what it does not
#
# It shows the items on which the utility of models made here is measured. They ask which word fits,
# so they measure how well a model predicts the language of a domain. They ask for no knowledge and no
# reasoning; *Prepare benchmarks* brings tasks that do.

# %%
import pandas as pd

from nbutils.charts import prepare_suite
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("prepare_suite", globals())

# %% [markdown]
# ## The items
#
# A task is a domain and a kind. Several items may come from one document, so they are no independent
# draws: every interval of this book resamples documents, not items.

# %%
run = s.own(s.plan.suite())
items = pd.concat(
    pd.read_json(path, lines=True, dtype=False).assign(task=path.stem)
    for path in sorted(s.compute(run).glob("*.jsonl"))
)
s.show(prepare_suite.sizes(items))

# %% [markdown]
# ## One item of each kind
#
# - `cloze` asks which content word comes next. The wrong words are about as frequent as the right one.
# - `agreement` asks which number fits: *is* or *are*, *this* or *these*. The rest of the sentence follows.
# - `preposition` asks which preposition fits before the words that follow.
#
# A model answers with the choice to which it gives the highest probability.

# %%
s.show(prepare_suite.examples(items))

# %% [markdown]
# The right choice stands at a random place, so its place says nothing.

# %%
places = items.groupby(["task", "gold"]).size().unstack(fill_value=0)
s.show(places.rename(columns="place {}".format).reset_index())

# %% [markdown]
# ## How leakage is excluded
#
# Items are cut from works of the split `benchmark` alone, and no work belongs to two splits. That is
# not enough: works quote each other. So a document is left out where any run of eight words occurs in
# the training text of any family.
#
# ## How it is done
#
# The code looks for places in a document where a kind of item can be made, and draws at most three of
# them. It cuts the text before the place as context, replaces the word there by each choice, and keeps
# the same words after it. Then it shuffles the choices and notes the place of the right one. `cloze` is
# made in the same way, without words after it, and with choices that are about as frequent in the domain.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - Answer the items of the table yourself. Which kind can you answer without the context?
# - The same items by lm-eval's own command line: the folder of the run holds its task files.
# - Another size: change `suite` in a copy of `notebooks/tiers/tiny.yml`. At which number do the held-out
#   works run out?
