# %% [markdown]
# # Memorization decoupling
#
# **The claim.** Training on text sampled from itself leaves a student's utility as it was, while
# what it had memorised word for word goes: almost nothing of it can be extracted any more.
#
# ## What you will learn
#
# - how extraction is measured, and why it is reported beside counts;
# - that utility and extraction can move apart, and for which pairings they do;
# - whether self-training is needed for that, or noise of the same size would do.
#
# ## What this notebook establishes, and what it does not
#
# A passage counts as extracted when greedy decoding from its prefix reproduces the suffix
# exactly {cite:p}`carlini2021extracting,carlini2023quantifying`. A fall in that count
# does not prove that nothing is left: another prompt, or a looser match, may still find it.

# %%
from nbutils.analysis import experiments, verdicts
from nbutils.charts import memorization_decoupling, parts, provenance
from nbutils.charts import tables as charts_tables
from nbutils.charts.tables import sentences, table
from nbutils.config import notebook_parameters
from nbutils.results.tables import labels, load, manifests

parts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %%
project = notebook_parameters.given(notebook_parameters.TablesNotebook, globals()).root
print(labels(project))

# %% [markdown]
# ## How much there was to forget
#
# Passages are planted in the pre-training text, in the middle of documents. `planted share` is
# their share of the training tokens and `exposures` how often each was seen. Half of
# understanding this page is here: a student that extracts few passages cannot show a fall.

# %%
models = load("models", project)
planted = ["results", "model", "architecture", "parameters", "planted_share", "exposures"]
table(models[planted])

# %%
falls = load("falls", project)
held_out = falls[falls["split"].eq("held_out")]
shown = ["results", "student", "passages", "before", "share", "share_low", "share_high"]
table(held_out.loc[held_out["experiment"].eq("untouched"), shown])

# %% [markdown]
# The interval of a share is exact {cite:p}`clopper1934fiducial`: it holds every probability that
# the hits among the passages do not rule out.
#
# ## Could the corpus itself carry the passages?
#
# If a corpus held the planted passages, training on it would rehearse them. `passage hits` counts
# the sampled documents that contain a passage's suffix, as a mean over seeds.

# %%
corpora = load("corpora", project)
written = corpora[corpora["round"].eq(1)].groupby(["results", "source", "temperature"])
table(written[["documents", "passage_hits"]].mean().reset_index(), digits=1)

# %% [markdown]
# ## Utility against extraction
#
# {numref}`fig-decoupling` puts the change of utility across and the fall of extraction up,
#
# ```{math}
# :label: fall
# \text{fall} = 1 - \frac{\text{exact before and after}}{\text{exact before}} .
# ```
#
# The shaded corner is where the claim lives. The controls stand in the same picture, in grey. Click
# a point to see its pairing before and after.

# %% mystnb={"figure": {"name": "fig-decoupling", "caption": "Change of utility against the fall of held-out extraction, both with intervals, one point a pairing or control. The shaded corner is kept and forgotten; beyond one point the scale of utility is logarithmic. Below, the chosen pairing before and after; the interval of an accuracy is that of its change."}}
gains = load("gains", project)
cells = experiments.decoupling_pairings(gains, falls)
memorization_decoupling.decoupling(cells)

# %% [markdown]
# ## The rule, before the result
#
# Judged are the compatible pairings, self and lineage, of students that extract anything before
# training. A pairing supports the claim when both parts hold.

# %%
table(verdicts.rules("decoupling"))

# %% [markdown]
# The interval of the fall is the exact one of the survivors among the passages extracted before; of
# several seeds it takes the widest limits, since every seed is asked for the same passages.
# Anything else is *undecided*. The claim is about every compatible pairing.

# %%
judged = verdicts.decoupling_verdicts(cells)
table(memorization_decoupling.decoupling_table(judged))

# %% [markdown]
# ## Is self-training special?
#
# Each control is compared with the student's self pairing. *It forgets more*, or *less*, when the
# intervals of the two falls do not meet; else the two are *not told apart*, which is not the same as
# equal. A control does the work of self-training when even the lower limit of its fall reaches self's
# fall, and self is surely not better by more than the tolerance. If equal-norm noise does the
# work, then forgetting says nothing about self-training; if real text does, it says nothing about
# synthetic text; if shuffled text does, it says nothing about language.

# %%
contrasts = load("contrasts", project)
implied = verdicts.control_implications(contrasts, cells)
table(memorization_decoupling.controls_table(implied))

# %%
sentences(
    f"{row.results}, {row.control}: {row.reason}"
    for row in memorization_decoupling.special(implied).itertuples()
)

# %% [markdown]
# ## Verdict
#
# Over all compatible pairings, and then for the self pairings alone:

# %%
alone = judged[judged["relation"].eq("self")]
sentences(
    f"{row.results}, {row.method}, {name}: {row.verdict} ({row.reason} pairings)"
    for name, frame in (("self and lineage", judged), ("self alone", alone))
    for row in verdicts.overall(frame).itertuples()
)

# %% [markdown]
# ## Runs behind this page

# %%
states = load("states", project)
runs = charts_tables.runs(states, "untouched", "pairings", "controls")
provenance.footer(manifests(project), runs)

# %% [markdown]
# ## Try it
#
# ```
# nbutils run tiny
# nbutils notebook memorization_decoupling
# ```
#
# - Compare the cross-family points with the others: does forgetting need a compatible corpus?
# - How many extracted passages would a student need before a fall to none proves the claim?
