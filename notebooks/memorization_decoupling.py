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
# - whether that takes self-training, or noise of the same size would do.
#
# ## What this notebook establishes, and what it does not
#
# A passage counts as extracted when greedy decoding from its prefix reproduces the suffix
# exactly {cite:p}`carlini2021extracting,carlini2023quantifying`. A fall in that count
# does not prove that nothing is left: another prompt, or a looser match, may still find it.

# %%
from nbutils.analysis import verdicts
from nbutils.charts import memorization_decoupling
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("memorization_decoupling", globals())

# %% [markdown]
# ## How much there was to forget
#
# Passages are planted in the pre-training text, in the middle of documents. `planted share` is
# their share of the training tokens and `exposures` how often each was seen. Half of
# understanding this page is here: a student that extracts few passages cannot show a fall.

# %%
planted = ["results", "model", "architecture", "parameters", "planted_share", "exposures"]
s.show(s.table("models")[planted])

# %% [markdown]
# So this is what the untouched students extract of the held-out passages. The interval of a share is
# exact {cite:p}`clopper1934fiducial`: it holds every probability that the hits among the passages do
# not rule out.

# %%
falls = s.table("falls")
start = falls[falls["split"].eq("held_out") & falls["experiment"].eq("untouched")]
s.show(start[["results", "student", "passages", "before", "share", "share_low", "share_high"]])

# %% [markdown]
# ## Could the corpus itself carry the passages?
#
# If a corpus held the planted passages, training on it would rehearse them. `passage hits` counts
# the sampled documents that contain a passage's suffix, as a mean over seeds.

# %%
corpora = s.table("corpora")
written = corpora[corpora["round"].eq(1)].groupby(["results", "source", "temperature"])
s.show(written[["documents", "passage_hits"]].mean().reset_index(), digits=1)

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
# The claim lives in the shaded corner. The controls stand in the same picture, in grey. Click
# a point to see its pairing before and after.

# %% mystnb={"figure": {"name": "fig-decoupling", "caption": "Change of utility against the fall of held-out extraction, both with intervals, one point per pairing or control. In the shaded corner utility stays and passages are forgotten; beyond one point the scale of utility is logarithmic. Below, the chosen pairing before and after; the interval of an accuracy is that of its change."}}
pairings = verdicts.decoupling_pairings(s.table("gains"), falls)
memorization_decoupling.decoupling(pairings)

# %% [markdown]
# ## The rule, before the result
#
# The rule judges the compatible pairings, self and lineage, of students that extract anything before
# training. A pairing supports the claim when both parts hold.

# %%
s.show(verdicts.rules("decoupling"))

# %% [markdown]
# The interval of the fall is the exact one of the survivors among the passages extracted before. Of
# several seeds it takes the widest limits, since every seed is asked for the same passages.
# Anything else is *undecided*. The claim is about every compatible pairing.

# %%
judged = verdicts.decoupling_verdicts(pairings)
s.show(memorization_decoupling.decoupling_table(judged))

# %% [markdown]
# ## Is self-training special?
#
# Each control is compared with the student's self pairing. *It forgets more*, or *less*, when the
# intervals of the two falls do not meet; else the two are *not told apart*, which is not the same as
# equal.

# %%
implied = verdicts.control_implications(s.table("contrasts"), pairings)
s.show(memorization_decoupling.controls_table(implied))

# %% [markdown]
# A control does the work of self-training when even the lower limit of its fall reaches self's
# fall, and self is surely not better by more than the tolerance. If equal-norm noise does the
# work, then forgetting says nothing about self-training; if real text does, it says nothing about
# synthetic text; if shuffled text does, it says nothing about language.

# %%
s.say(
    f"{row.results}, {row.control}: {row.reason}"
    for row in memorization_decoupling.special(implied).itertuples()
)

# %% [markdown]
# ## Verdict
#
# Over all compatible pairings, and then for the self pairings alone:

# %%
s.say(memorization_decoupling.verdict(judged))

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("untouched", "pairings", "controls")

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
