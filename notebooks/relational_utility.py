# %% [markdown]
# # Relational utility
#
# **The claim.** Whether a student gains from synthetic text depends on who wrote it: a corpus by
# the student itself, or by a member of its lineage, serves it better than one by another family,
# and a stronger but differently trained source does not win.
#
# ## What you will learn
#
# - how the gain of every pairing of a source and a student is measured, and how sure it is;
# - how gains differ between the three relations: self, lineage and cross-family;
# - how to judge the claim by a rule that was fixed before the numbers.
#
# ## What this notebook establishes, and what it does not
#
# It compares corpora that differ only in their source: same number of tokens, same recipe, same
# students, same items. It establishes an ordering for the models of a tier. It does not establish
# that the ordering holds for larger models, for other recipes, or for prompted and filtered
# text, and its intervals speak about other items, not about other seeds.

# %%
from pathlib import Path

from nbutils import charts, findings, results, verdicts

charts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder that holds book/results and runs/tables
seed: int = 0  # seed of the bootstrap; another one moves the limits by a hair

# %% [markdown]
# The tables are read from every tier that is complete: those published with the book and, where
# you have run a tier yourself, your own.

# %%
project = Path(root)
if not project.is_dir():
    raise ValueError(f"root: {root!r} is not a folder")
if seed < 0:
    raise ValueError(f"seed: {seed} is below 0")
labels = [tier.label for tier in results.available(project)]
print("Results:", ", ".join(labels) or "none yet (run: nbutils run tiny)")

# %% [markdown]
# ## Where the students start
#
# A gain means little without its starting point: the accuracy of the untouched students beside
# what guessing would give, each averaged within its task and then over the tasks.

# %%
utility = results.load("utility", project)
untouched = utility[utility["source"].isna()]
by = ["results", "student"]
tasks = untouched.groupby([*by, "task"], sort=False)[["chance", "correct"]].mean()
charts.table(tasks.groupby(by, sort=False).mean().reset_index())

# %% [markdown]
# ## The gain of every pairing
#
# The gain of a pairing is the student's accuracy after training minus its accuracy before,
# item by item, averaged within each task and then over the tasks. Because the same items are
# answered twice, what is common to both cancels, and the interval is narrower than two separate
# accuracies would suggest.
#
# ```{math}
# :label: gain
# \text{gain} = \frac{1}{T} \sum_{t=1}^{T} \frac{1}{n_t}
# \sum_{i=1}^{n_t} \left( c^{\text{after}}_{t,i} - c^{\text{before}}_{t,i} \right)
# ```
#
# Here $c$ is 1 for a right answer and 0 for a wrong one, $T$ the number of tasks and $n_t$ the
# number of items of task $t$. Items are resampled within their task 2,000 times
# {cite:p}`efron1979bootstrap`; the interval holds the middle 95 %.
#
# In {numref}`fig-relational-matrix` the colour of a cell is the gain of the suite and its border
# the relation. **A pale cell's interval covers zero**: the data do not tell a gain from a loss.
# Click a cell to see its tasks below.

# %% mystnb={"figure": {"name": "fig-relational-matrix", "caption": "Gain of every pairing, in percentage points. Rows are sources, columns students; pale cells cannot be told from zero. The bars show the chosen pairing, task by task, with 95 % intervals."}}
gains = results.load("gains", project)
findings.relational_matrix(gains)

# %% [markdown]
# ## Did the students read?
#
# A gain of nothing could mean that nothing was learned, so {numref}`fig-losses` shows the training
# loss of one student at a time. One would expect text close to the student's own writing to start
# low and foreign text to start high; see whether it does, and whether the lines still fall.

# %% mystnb={"figure": {"name": "fig-losses", "caption": "Training loss of a student on every corpus at temperature 1, coloured by relation."}}
curves = results.load("curves", project)
charts.loss_curves(curves[curves["temperature"].eq(verdicts.TEMPERATURE)])

# %% [markdown]
# ## The same, by relation
#
# A suite's mean can hide that a foreign corpus takes something away from the student's own domain
# and brings a little of another. The next table therefore gives, beside the suite, the mean
# gain on the tasks of the student's own domain. It is description, not judgement.

# %%
models = results.load("models", project)
domain = models.set_index(["results", "model"])["domain"].to_dict()
trained = gains[gains["temperature"].eq(verdicts.TEMPERATURE)].copy()
own = [
    domain.get((row.results, row.student), "?") == row.task.split("_")[0]
    for row in trained.itertuples()
]
trained["tasks"] = ["own domain" if o else "other domains" for o in own]
trained.loc[trained["task"].eq("suite"), "tasks"] = "suite"

# %%
keys = ["results", "method", "relation"]
summary = 100 * trained.pivot_table(index=keys, columns="tasks", values="gain")
charts.table(summary.reset_index(), digits=2)

# %% [markdown]
# ## The rule, before the result
#
# For each student, at temperature 1, three contrasts are computed on the same items. A relation
# with several sources enters with the mean of its students' answers.
#
# 1. self minus lineage must exceed the tolerance's loss, half a point: self is no worse;
# 2. lineage minus cross-family must exceed 0;
# 3. self minus cross-family must exceed 0.
#
# A contrast is *supported* when its whole interval lies above the threshold, *contradicted* when
# the whole interval lies below, and *undecided* when it straddles. A student supports the claim
# when all three do, and contradicts it when any one is contradicted. The claim is about every
# student: it is supported when all support it, and one contradicting student contradicts it.

# %%
ordering = verdicts.relational_verdicts(utility, seed)
charts.table(verdicts.overall(ordering))

# %% [markdown]
# Student by student, with the three contrasts in percentage points:

# %%
charts.table(ordering)

# %% [markdown]
# ## Does a stronger stranger win?
#
# A foreign source counts as *stronger* when it has more parameters than the student. Of several,
# the one after which the student scores best is taken, which leans towards the stranger. The
# claim, that the student's own corpus beats it, is judged by the interval of the paired contrast
# self minus stranger, against 0.

# %%
stranger = verdicts.stronger_verdicts(utility, models, seed)
charts.table(verdicts.overall(stranger))

# %%
charts.table(stranger)

# %% [markdown]
# ## Verdict
#
# Computed from the tables by the two rules above, one sentence a result label and method.

# %%
for name, frame in (("ordering", ordering), ("stronger stranger", stranger)):
    for row in verdicts.overall(frame).itertuples():
        print(f"{row.results}, {row.method}: {name} {row.verdict} ({row.reason} students)")

# %% [markdown]
# ## Runs behind this page

# %%
charts.provenance(results.manifests(project), gains["run"].unique().tolist())

# %% [markdown]
# ## Try it
#
# Compute the tables yourself, then execute this notebook on them; the selectors will also offer
# your run:
#
# ```
# nbutils run tiny
# nbutils notebook relational_utility -p seed 1
# ```
#
# - Switch the temperature in {numref}`fig-relational-matrix`: which cells exist away from 1.0?
# - Find the pairing with the largest loss, click it, and see which domain pays.
