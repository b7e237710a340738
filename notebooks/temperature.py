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
# It varies one thing, the temperature, for self pairings. Coverage is measured by distinct
# bigrams, which also grow when text turns to noise, by the share of the benchmark's vocabulary
# that equal amounts of text hold, and by how many documents hold a planted passage. Fidelity is
# the log-likelihood of the text under a larger member of the source's family, or under the source;
# neither knows what is true.

# %%
from nbutils.analysis import experiments, verdicts
from nbutils.charts import parts, provenance, temperature
from nbutils.charts import tables as charts_tables
from nbutils.charts.tables import contrast_table, corpus_table, sentences, table
from nbutils.config import design, notebook_parameters
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
# ## The corpora
#
# At temperature $\tau$ the next token is drawn from
#
# ```{math}
# :label: tempered
# p_\tau(x) = \frac{p(x)^{1/\tau}}{\sum_{y} p(y)^{1/\tau}} .
# ```

# Beside how much each source wrote and how varied it is, and how many of the suite's words it holds, the
# table tells which share of the tokens is *re-read* as others by the source's own tokenizer: a text may be
# written in several ways, and a model does not always write the one that it would read.

# %%
corpora = load("corpora", project)
corpus_table(corpora[corpora["round"].eq(1)])

# %% [markdown]
# ## Four quantities, one slider
#
# Move the slider in {numref}`fig-temperature` to mark one temperature in all three panels.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Self pairings over sampling temperatures: coverage against fidelity of the corpus, with the range over seeds, the gain after training on it, and what is still extracted, with intervals."}}
gains = load("gains", project)
falls = load("falls", project)
rows = experiments.temperature_rows(corpora, gains, falls)
temperature.temperatures(rows)

# %% [markdown]
# ## Is it a trade?
#
# A trade means that, as the temperature rises, the distinct bigrams rise at every step and the
# fidelity falls at every step.

# %%
trade = experiments.temperature_trades(corpora)
table(trade)

# %% [markdown]
# ## The rule, before the result
#
# For each student on its own corpus, paired per item and within each seed:

# %%
table(verdicts.rules("temperature"))

# %% [markdown]
# Anything else is *undecided*. The claim is about every student.

# %%
judged = verdicts.judged(load("contrasts", project), "temperature")
table(contrast_table(judged), digits=4)

# %% [markdown]
# ## The mean over students

# %%
table(contrast_table(verdicts.across_students(judged)))

# %% [markdown]
# ## Verdict

# %%
sentences(
    f"{row.results}, {row.method}: that a temperature of {design.TEMPERATURE:g} serves as well as "
    f"any other is {row.verdict} ({row.reason} contrasts)"
    for row in verdicts.overall(judged).itertuples()
)

# %%
sentences(
    f"{label}: the trade of coverage for fidelity is seen for {part['trade'].eq('yes').sum()} of "
    f"{len(part)} sources"
    for label, part in trade.groupby("results", sort=False)
)

# %% [markdown]
# ## Runs behind this page

# %%
states = load("states", project)
own = states[states["relation"].isin(["self", "untouched"])]
runs = [*corpora["run"].unique(), *charts_tables.runs(own, "untouched", "pairings")]
provenance.footer(manifests(project), runs)

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
