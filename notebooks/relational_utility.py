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
# - what four controls add, in which no model wrote the corpus, or nothing was learnt from it;
# - how to judge the claim by a rule that was fixed before the numbers.
#
# ## What this notebook establishes, and what it does not
#
# It compares corpora that differ only in their source: same number of tokens, same recipe, same
# students, same items. The number of seeds behind each tier is given below. It judges an
# ordering for the models of a tier. It does not judge it for larger models, for other recipes (see
# *Recipe map*), or for prompted and filtered text.

# %%
from nbutils.analysis import verdicts
from nbutils.charts import relational_utility
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("relational_utility", globals())

# %% [markdown]
# ## Where the students start
#
# A gain means little without its starting point. The table gives the accuracy of the untouched
# students beside what guessing would give, each averaged within its task and then over the tasks. A
# benchmark that defines both metrics of lm-eval, `acc` and `acc_norm`, has two rows of its own, the
# metric of published tables first. The suite's mean and every verdict use `acc`.

# %%
gains = s.table("gains")
s.show(relational_utility.starts(gains))

# %% [markdown]
# ## The gain of every pairing
#
# The gain of a pairing is the student's accuracy after training minus its accuracy before, item by
# item, averaged within each task and then over the tasks. The same items are answered twice, so what
# is common to both cancels.
#
# ```{math}
# :label: gain
# \text{gain} = \frac{1}{T} \sum_{t=1}^{T} \frac{1}{n_t}
# \sum_{i=1}^{n_t} \left( c^{\text{after}}_{t,i} - c^{\text{before}}_{t,i} \right)
# ```
#
# Here $c$ is one for a right answer and zero for a wrong one, $T$ the number of tasks and $n_t$ the
# number of items of task $t$. The interval comes from resampling the documents that items are cut
# from, and the seeds; *How sure* tests how often it holds the truth.
#
# In {numref}`fig-relational-matrix` the colour of a cell is the gain of the suite and its border
# the relation. **The interval of a pale cell covers zero**: the data cannot tell a gain from a loss.
# Below the models stand the controls: *real text* is held-out text of the student's own domains,
# *shuffled self* its own corpus with the tokens in random order, *noise* its weights moved at random
# as far as self-training moves them, and *rate zero* the whole training with a learning rate of
# zero, whose gain must be exactly zero. Click a cell to see its tasks.

# %% mystnb={"figure": {"name": "fig-relational-matrix", "caption": "Gain of every pairing, in percentage points. Rows are sources and controls, columns students; pale cells cannot be distinguished from zero. The bars show the chosen pairing, task by task, with intervals."}}
relational_utility.relational_matrix(gains)

# %% [markdown]
# ## What could have been seen
#
# A gain that is too small to be seen is not a gain of zero. So first, what do the intervals speak
# about?

# %%
s.say(relational_utility.seeds(gains))

# %% [markdown]
# `detectable` is the smallest true gain, in points, that a test at the usual level finds with the
# usual power (`POWER` in `nbutils.analysis.bootstrap`), given the items and the spread of the seeds
# of each pairing. The table gives the largest of each relation.

# %%
s.show(relational_utility.detectable(gains), digits=2)

# %% [markdown]
# ## Did the students read?
#
# A gain of zero could mean that nothing was learned, so {numref}`fig-losses` shows the training
# loss of one student at a time. One would expect text close to the student's own writing to start
# low and foreign text to start high. See whether it does, and whether the lines still fall.

# %% mystnb={"figure": {"name": "fig-losses", "caption": "Training loss of a student on every corpus, one line per run, coloured by relation."}}
curves = s.table("curves")
relational_utility.loss_curves(curves)

# %% [markdown]
# ## The same, by relation
#
# A suite's mean can hide that a foreign corpus takes something away from the student's own domain
# and brings a little of another. So the next table gives, beside the suite, the mean gain in points
# on the tasks of the student's own domain. It describes and does not judge.

# %%
s.show(relational_utility.by_domain(gains, s.table("models")), digits=2)

# %% [markdown]
# ## The rule, before the result
#
# For each student three contrasts are computed on the same items and within each seed. A relation
# with several sources enters with the mean of the answers after each of them.

# %%
s.show(verdicts.rules("ordering"))

# %% [markdown]
# Anything else is *undecided*. The claim is about every student, so it is supported when each part
# is: to demand that all hold needs no correction {cite:p}`berger1982multiparameter`. One part among many
# can lie on the wrong side by chance, so what contradicts is corrected for their number
# {cite:p}`holm1979simple`. And students are a sample: each contrast is also estimated as a mean over them,
# with students as a random effect {cite:p}`dersimonian1986meta,hartung2001refined`.
#
# ## Student by student

# %%
contrasts = s.table("contrasts")
ordering = verdicts.judged(contrasts, "ordering")
s.contrasts(ordering)

# %% [markdown]
# ## The mean over students
#
# One mean per contrast, not corrected for the number of contrasts.

# %%
s.contrasts(verdicts.across_students(ordering))

# %% [markdown]
# ## Does a stronger stranger win?
#
# A same-lineage source is compared with the foreign sources that are stronger than it, by a paired
# test of its own.

# %%
s.show(verdicts.rules("stranger"))

# %% [markdown]
# Student by student:

# %%
stranger = verdicts.judged(contrasts, "stranger")
s.contrasts(stranger)

# %% [markdown]
# ## What the controls say
#
# If real text, shuffled text or noise serves a student better than its own corpus, nothing speaks
# for its own corpus. The rule asks no more than that self is no worse, so *supported* does
# not say that self is better: for that the whole interval must lie above zero.

# %%
s.show(verdicts.rules("controls"))

# %% [markdown]
# Student by student:

# %%
s.contrasts(verdicts.judged(contrasts, "controls"))

# %% [markdown]
# The last control tests the measurement itself: without a step the gain must be zero.

# %%
s.say(relational_utility.at_rate_zero(gains))

# %% [markdown]
# ## Verdict
#
# Computed from the tables by the rules above.

# %%
s.say(relational_utility.verdict(ordering, stranger))

# %% [markdown]
# The ordering, for each student:

# %%
s.show(verdicts.by(ordering, "results", "method", "student"))

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("untouched", "pairings", "controls", also=curves["run"])

# %% [markdown]
# ## Try it
#
# Compute the tables yourself, then execute this notebook on them; the selectors will also offer
# your run:
#
# ```
# nbutils run tiny
# nbutils notebook relational_utility
# ```
#
# - Switch the temperature in {numref}`fig-relational-matrix`: which cells exist away from one?
# - Find the pairing with the largest loss, click it, and see which domain pays.
# - Which control comes closest to the self pairing, and what would that mean?
