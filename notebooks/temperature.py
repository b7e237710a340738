# %% [markdown]
# # Temperature
#
# **The claim.** Sampling temperature trades coverage for fidelity, and the student's own
# distribution, at a temperature of one, serves it at least as well as a sharper or a flatter one.
#
# ## What you will learn
#
# - what coverage and fidelity mean for a corpus sampled from BOS alone;
# - how both change with the temperature, for every source;
# - what that does to gain and to extraction.
#
# ## What this notebook establishes, and what it does not
#
# It varies one thing, the temperature, for self pairings. Three numbers measure coverage: the share of
# distinct bigrams, which also grows when text turns to noise; the share of the benchmark's vocabulary
# that equal amounts of text hold; and how many documents hold a planted passage. Fidelity is
# the log-likelihood of the text under a larger member of the source's family, or under the source.
# Neither knows what is true.

# %%
from nbutils.analysis import verdicts
from nbutils.charts import temperature
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("temperature", globals())

# %% [markdown]
# ## The corpora
#
# At temperature $\tau$ the next token is drawn from
#
# ```{math}
# :label: tempered
# p_\tau(x) = \frac{p(x)^{1/\tau}}{\sum_{y} p(y)^{1/\tau}} .
# ```
#
# The table says how much each source wrote, how varied it is, and how many of the suite's words it
# holds. *re-read* is the share of the tokens that the source's own tokenizer reads as others: a text
# can be written in several ways, and a model does not always write the one that it would read.

# %%
corpora = s.table("corpora")
s.show(temperature.corpus_table(corpora))

# %% [markdown]
# ## Four quantities, one slider
#
# Move the slider in {numref}`fig-temperature` to mark one temperature in all three panels.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Self pairings over sampling temperatures: coverage against fidelity of the corpus, with the range over seeds, the gain after training on it, and what is still extracted, with intervals."}}
temperature.temperatures(corpora, s.table("gains"), s.table("falls"))

# %% [markdown]
# ## Is it a trade?
#
# A trade means that, as the temperature rises, the distinct bigrams rise at every step and the
# fidelity falls at every step.

# %%
trades = temperature.trades(corpora)
s.show(trades)

# %% [markdown]
# ## The rule, before the result
#
# For each student on its own corpus, paired per item and within each seed:

# %%
s.show(verdicts.rules("temperature"))

# %% [markdown]
# Anything else is *undecided*. The claim is about every student.

# %%
judged = verdicts.judged(s.table("contrasts"), "temperature")
s.contrasts(judged)

# %% [markdown]
# ## The mean over students

# %%
s.contrasts(verdicts.across_students(judged))

# %% [markdown]
# ## Verdict
#
# On utility:

# %%
s.say(temperature.verdict(judged))

# %% [markdown]
# On the trade:

# %%
s.say(temperature.trades_seen(trades))

# %% [markdown]
# ## Runs behind this page

# %%
states = s.table("states")
own = states[states["relation"].isin(["self", "untouched"])]
s.footer_of("untouched", "pairings", also=corpora["run"], states=own)

# %% [markdown]
# ## Try it
#
# ```
# nbutils run tiny
# nbutils notebook temperature
# ```
#
# - At which temperature does a corpus hold most of the planted passages, and is that where the
#   student forgets least?
# - Sketch what you expect at a temperature of zero. What would the corpus look like?
