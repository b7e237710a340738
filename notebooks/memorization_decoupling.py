# %% [markdown]
# # Memorization decoupling
#
# **The claim.** Training on text sampled from itself leaves a student's utility as it was, while
# what it had memorised word for word goes: held-out exact-match extraction falls by over 95 %.
#
# ## What you will learn
#
# - how extraction is measured, and why it is reported beside counts;
# - that utility and extraction can move apart, and for which pairings they do;
# - how to read a verdict that needs two things to hold at once.
#
# ## What this notebook establishes, and what it does not
#
# A passage counts as extracted when greedy decoding from its prefix reproduces the suffix
# exactly {cite:p}`carlini2021extracting,carlini2023quantifying`. A fall in that count
# does not prove that nothing is left: another prompt, or a looser match, may still find it. And any
# strong disturbance of the weights may forget too, so a fall alone says little about *why*.

# %%
from pathlib import Path

from nbutils import charts, findings, results, verdicts

charts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder that holds book/results and runs/tables

# %%
project = Path(root)
if not project.is_dir():
    raise ValueError(f"root: {root!r} is not a folder")
labels = [tier.label for tier in results.available(project)]
print("Results:", ", ".join(labels) or "none yet (run: nbutils run tiny)")

# %% [markdown]
# ## How much there was to forget
#
# Passages are planted in the pre-training text, in the middle of documents. `planted share` is
# their share of the training tokens and `exposures` how often each was seen. Half of
# understanding this page is here: a student that extracts few passages cannot show a fall.

# %%
models = results.load("models", project)
planted = ["results", "model", "architecture", "parameters", "planted_share", "exposures"]
charts.table(models[planted])

# %%
extraction = results.load("extraction", project)
counts = verdicts.extraction_counts(extraction)
before = counts[counts["source"].isna()]
shown = ["results", "student", "passages", "exact", "share", "share_low", "share_high"]
charts.table(before[shown])

# %% [markdown]
# The interval of a share is exact {cite:p}`clopper1934fiducial`: with `exact` hits among
# `passages`, it holds every probability that the hits do not rule out at 2.5 % on either side.
#
# ## Could the corpus itself carry the passages?
#
# If a corpus held the planted passages, training on it would rehearse them. `passage hits` counts
# the sampled documents that contain a passage's suffix.

# %%
corpora = results.load("corpora", project)
charts.table(corpora[["results", "source", "temperature", "documents", "passage_hits"]])

# %% [markdown]
# ## Utility against extraction
#
# {numref}`fig-decoupling` puts the change of utility across and the fall of extraction up,
#
# ```{math}
# :label: fall
# \text{fall} = 1 - \frac{\min(\text{exact after},\ \text{exact before})}{\text{exact before}} .
# ```
#
# The shaded corner is where the claim lives: no more than half a point lost, and a fall of 95 %
# or more. Click a point to see its pairing before and after.

# %% mystnb={"figure": {"name": "fig-decoupling", "caption": "Change of utility (95 % interval) against the fall of held-out extraction (exact interval, 90 %), one point a pairing. The shaded corner is kept and forgotten. Below, the chosen pairing before and after."}}
gains = results.load("gains", project)
cells = verdicts.decoupling_cells(gains, extraction)
findings.decoupling(cells)

# %% [markdown]
# ## The rule, before the result
#
# Judged are the compatible pairings, self and lineage, at temperature 1, of students that extract
# anything before training. A pairing supports the claim when both hold:
#
# 1. **kept**: the whole 95 % interval of the change of utility lies above a loss of half a point;
# 2. **forgotten**: the whole interval of the fall lies above 95 %. It is the exact interval of
#    the survivors among the passages extracted before, at 90 %, so each limit is a
#    one-sided 95 % limit, as suits a claim with one side.
#
# It is contradicted when either interval lies wholly on the wrong side, and undecided otherwise.
# The claim is about every compatible pairing.

# %%
judged = verdicts.decoupling_verdicts(cells)
charts.table(judged)

# %% [markdown]
# ## Verdict
#
# Over all compatible pairings, and then for the self pairings alone:

# %%
charts.table(verdicts.overall(judged))

# %%
alone = judged[judged["relation"].eq("self")]
for name, frame in (("self and lineage", judged), ("self alone", alone)):
    for row in verdicts.overall(frame).itertuples():
        print(f"{row.results}, {row.method}, {name}: {row.verdict} ({row.reason} pairings)")

# %% [markdown]
# ## Runs behind this page

# %%
runs = [*extraction["run"].unique(), *cells["run"].unique()]
charts.provenance(results.manifests(project), runs)

# %% [markdown]
# ## Try it
#
# ```
# nbutils run tiny
# nbutils notebook memorization_decoupling
# ```
#
# - Compare the cross-family points with the others: does forgetting need a compatible corpus?
# - How many extracted passages would a student need before a fall to none proves 95 %?
