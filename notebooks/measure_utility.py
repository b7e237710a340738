# %% [markdown]
# # Measure utility
#
# **Stage: a model answers the benchmark suite, item by item, through lm-eval.**
#
# ## What you will learn
#
# - how an answer is scored: by the log-likelihood of the choices;
# - how the gain of a student is paired, item by item, with its untouched self;
# - how sure a gain on so many items is.
#
# ## What this notebook establishes, and what it does not
#
# It measures one pairing against its untouched student on one suite. The interval covers the choice of
# items, not the choice of seeds.

# %%
import pandas as pd

from nbutils.charts import pairing
from nbutils.notebooks import session
from nbutils.protocol import prepare_suite

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("measure_utility", globals())

# %% [markdown]
# ## The gain
#
# The accuracy on the suite after training minus the accuracy before, with a 95 % bootstrap interval.

# %%
run = s.plan.utility(student, s.pairing)
gains = s.gains(s.pairing)
s.say([pairing.gain_sentence(gains, str(s.pairing))])

# %% [markdown]
# Per task, and for the suite as the unweighted mean over its tasks. The last column is the smallest true
# gain that so many items would find in four of five cases.

# %%
table = pairing.gain_table(gains)
s.show(table[["task", "gain (points)", "detectable (points)"]])

# %% [markdown]
# What a guess gets right, beside what the student gets right before and after. `acc` takes the choice
# of the highest log-likelihood, `acc_norm` the choice of the highest log-likelihood per character. A
# task that defines both has a row for each, the one of published tables first. The suite's mean and
# every verdict use `acc`.

# %%
s.show(table[["task", "items", "chance", "base_accuracy", "accuracy"]])

# %% [markdown]
# ## The items
#
# Items are cut from held-out works of every domain, or come from published benchmarks: *Prepare the
# suite* and *Prepare benchmarks* show how. This is the first item of every task, with the right answer
# at its end.

# %%
texts = prepare_suite.texts(s.compute(s.plan.suite()))
rows = [
    (task, len(items), "…" + " ".join(items[0].split())[-160:]) for task, items in texts.items()
]
s.show(pd.DataFrame(rows, columns=["task", "items", "first item"]))

# %% [markdown]
# The *margin* of an item is the log-likelihood of the right choice minus that of the best wrong one, in
# nats. An answer is right where it is above zero. It moves before answers do.

# %%
before, after = s.frame(s.plan.utility(student), "utility"), s.frame(run, "utility")
s.show(after[["task", "item", "document", "correct", "margin"]].head())

# %% [markdown]
# ## Paired, item by item
#
# An item that the student gets right both times, or wrong both times, says nothing about the change.
# Only the others do.

# %%
both = before.merge(after, on=["task", "item"], suffixes=("_before", "_after"))
change = both.correct_after.astype(int) - both.correct_before.astype(int)
counts = change.map({1: "won", 0: "unchanged", -1: "lost"}).value_counts()
s.show(counts.rename_axis("items").reset_index(name="number"))

# %% [markdown]
# ## How it is done
#
# lm-eval asks the model for the log-likelihood of every choice behind its context, and takes the highest.
# The code keeps its record of each item as one row, so that two models can be compared on the same
# items, and adds the chance of a guess and the margin. The task files beside the items are lm-eval's own
# format, so its command line gives the same answers. The second function answers what lm-eval asks:
# requests that begin alike share one forward pass.

# %%
s.method("protocol.measure_utility", "protocol.tree_scorer")

# %% [markdown]
# ## Where this comes from

# %%
s.footer(s.plan.utility(student), run)

# %% [markdown]
# ## Try it
#
# - Another pairing: `nbutils notebook measure_utility -p source neox-large`. Is its gain outside the
#   interval of the gain above?
# - Which task has the widest interval, and how many items does it have?
# - The same items by lm-eval's command line: *Re-execute* shows how.
