# %% [markdown]
# # Proxies fail
#
# **The claim.** Neither the semantic similarity of a corpus to the benchmark, nor the mean
# per-token likelihood of the corpus under the student, predicts the student's gain.
#
# ## What you will learn
#
# - what a proxy is, and why one would want it: it costs no training;
# - how well each proxy ranks the corpora a student could be given;
# - when a rank correlation is too uncertain to say anything.
#
# ## What this notebook establishes, and what it does not
#
# It correlates each proxy with measured gains over the pairings of a tier. With a handful of
# sources per student, only strong agreement can be distinguished from none. A proxy that fails here
# fails as a way to choose between *these* corpora. Gains that are mostly noise cannot be ranked by
# anything, so compare the gains' intervals first. A proxy that predicts here may do no more than
# recognise the relation, which is known without it.

# %%
from nbutils.analysis import predictors
from nbutils.charts import proxies_fail
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."
seed: int = 0  # seed of the bootstrap and of the permutations

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("proxies_fail", globals())

# %% [markdown]
# ## The proxies
#
# - `semantic_minilm`: the cosine of corpus and benchmark in the space of a sentence encoder
#   {cite:p}`reimers2019sentencebert,wang2020minilm`, present where its package is installed;
# - `semantic_tfidf`: the same with weighted word counts {cite:p}`sparckjones1972idf`, always
#   present;
# - `log_likelihood`: the corpus' mean log-probability per token under the untouched student,
#
# ```{math}
# :label: likelihood
# \ell(C, S) = \frac{1}{|C|} \sum_{j=1}^{|C|} \log p_S\!\left(x_j \mid x_{<j}\right) .
# ```
#
# The similarity is measured against each task and averaged; the likelihood does not depend on a task.
# Proxies and gains are means over seeds.

# %%
proxies = s.table("proxies")
points = predictors.pairing_points(proxies[proxies["kind"].eq("proxy")], s.table("gains"))
counts = points.groupby(["results", "method", "proxy"], as_index=False).size()
s.show(counts.rename(columns={"size": "pairings"}))

# %% [markdown]
# ## How a proxy is judged
#
# A student has a few corpora to choose from. A useful proxy ranks them as the gains do, so each
# student gets its own rank correlation (Spearman's rho), and the students are averaged. A student
# that gains more from everything does not count as agreement.
#
# Intervals come from resampling the pairings of each student. P-values come from permuting its gains,
# over all orders where there are few.

# %%
correlations = predictors.proxy_correlations(points, seed)

# %% [markdown]
# Choose a proxy above {numref}`fig-proxy-scatter`. If it predicted, the points would climb from
# left to right and the dots below would sit far right of zero. Click a student in the legend to
# single it out.

# %% mystnb={"figure": {"name": "fig-proxy-scatter", "caption": "A proxy's value against the gain, one point per pairing, with intervals. Below, the rank correlation of the two for every student and their mean."}}
proxies_fail.proxy_scatter(points, correlations)

# %% [markdown]
# ## Beyond the relation
#
# A proxy may agree with the gains only because it distinguishes relatives from strangers. So the same
# correlation is computed among the cross-family corpora alone, where the relation is constant.
# This describes, and does not enter the verdict.

# %%
strangers = points[points["relation"].eq("cross-family")]
among = predictors.proxy_correlations(strangers, seed)
s.show(among[among["student"].eq("all students")].drop(columns="kind"), digits=2)

# %% [markdown]
# ## The rule, before the result
#
# The rule judges the mean over students of the correlation within each.

# %%
s.show(predictors.rules())

# %% [markdown]
# Anything else is *undecided*. The claim says *neither*: it is supported when every proxy fails and
# contradicted by one that predicts.

# %%
judged = predictors.proxy_verdicts(correlations)
s.show(judged.drop(columns=["kind", "student"]))

# %% [markdown]
# ## Verdict

# %%
s.say(proxies_fail.verdict(judged))

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("pairings", also=proxies["run"])

# %% [markdown]
# ## Try it
#
# ```
# nbutils run tiny
# nbutils notebook proxies_fail -p seed 1
# ```
#
# - Which proxy separates the relations best, and does it still rank corpora within one relation?
# - Write down a proxy of your own: one number per corpus and student. What would it have to know?
