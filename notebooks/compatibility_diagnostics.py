# %% [markdown]
# # Compatibility diagnostics
#
# **The question.** If proxies fail, does some number say which corpus suits a student before
# any training, and without looking at a benchmark?
#
# ## What you will learn
#
# - six candidates that compare a corpus, or its source, with the student;
# - how to test a predictor on a student that it has never seen;
# - what choosing a corpus by it would cost.
#
# ## What this notebook establishes, and what it does not
#
# It ranks the corpora of a tier for each student. With a handful of students and sources, a
# diagnostic that ranks well here is a candidate, not a law. Candidates that only recognise the
# relation would look good as well, so a second table leaves self and lineage out.

# %%
from nbutils.analysis import predictors
from nbutils.charts import compatibility_diagnostics
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."
seed: int = 0  # seed of the bootstrap and of the permutations

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("compatibility_diagnostics", globals())

# %% [markdown]
# ## The candidates
#
# - `gradient_cosine`: the cosine of the student's gradients on the corpus and on its own corpus
#   {cite:p}`yu2020gradient`;
# - `perplexity_gap`: how much worse student and source predict each other's text than their own,
#   a symmetric divergence {cite:p}`jeffreys1946invariant`;
# - `tokenizer_overlap`: the share of the corpus' tokens that the student's vocabulary has;
# - `representation_cka`: the similarity of the two models' hidden states on the corpus
#   {cite:p}`kornblith2019similarity`;
# - `ngram_divergence`: the divergence of the bigrams of the corpus and of the student's own
#   {cite:p}`lin1991divergence`;
# - `own_loss_slope`: how fast the student's loss on its own corpus falls when it steps along the
#   gradient of the given one.
#
# The own corpus is one of another seed, so that gradients and bigrams of the self pairing are no
# tautology. Where source and student are one model, the gap, the overlap and the similarity are.

# %%
proxies = s.table("proxies")
points = predictors.pairing_points(proxies, s.table("gains"))
print(f"{len(points)} values of {points['proxy'].nunique()} predictors")

# %% [markdown]
# ## The rule, before the result
#
# Whether a high value is good is not known beforehand. So one student is left out, the sign is
# learnt on the others, and the ranking is tried on the one left out; then the next. A diagnostic is
# *useful* when it predicts as the rule for proxies asks, with a one-sided p-value, since its sign is
# learnt, corrected over proxies and diagnostics together:

# %%
s.show(predictors.rules())

# %% [markdown]
# Its `regret` is what would be lost by training on the corpus that it puts first, against the best
# corpus, in points; the tick is the loss of a choice at random.

# %% mystnb={"figure": {"name": "fig-predictors", "caption": "Rank correlation with gain for a student left out, with intervals, for every proxy and diagnostic; below, the gain lost by choosing one corpus by it, as a mean over students with their range; the upright tick is a choice at random."}}
judged = predictors.useful(predictors.left_out(points, seed))
compatibility_diagnostics.predictors(judged)

# %% [markdown]
# The same in numbers, the best first:

# %%
s.show(compatibility_diagnostics.predictors_table(judged))

# %% [markdown]
# ## Among strangers alone
#
# The next table does the same with cross-family corpora only, where the relation is constant. It
# describes and does not judge.

# %%
strangers = points[points["relation"].eq("cross-family")]
among = predictors.useful(predictors.left_out(strangers, seed))
s.show(compatibility_diagnostics.predictors_table(among))

# %% [markdown]
# ## Verdict

# %%
s.say(
    f"{row.results}, {row.method}: {row.reason}"
    for row in compatibility_diagnostics.best_predictors(judged).itertuples()
)

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("pairings", also=proxies["run"])

# %% [markdown]
# ## Try it
#
# ```
# nbutils run lab
# nbutils notebook compatibility_diagnostics -p seed 1
# ```
#
# - Which diagnostics would you expect to agree with each other, and do they?
# - Which one would still work for a source whose weights you cannot see?
