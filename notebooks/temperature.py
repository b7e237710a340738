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
from nbutils import cells, charts, findings, forms, reports, results, verdicts

charts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %%
project = forms.given(forms.TablesNotebook, globals()).root
print(results.found(project))

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
corpora = results.load("corpora", project)
charts.corpus_table(corpora[corpora["round"].eq(1)])

# %% [markdown]
# ## Four quantities, one slider
#
# Move the slider in {numref}`fig-temperature` to mark one temperature in all three panels.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Self pairings over sampling temperatures: coverage against fidelity of the corpus, with the range over seeds, the gain after training on it, and what is still extracted, with intervals."}}
gains = results.load("gains", project)
falls = results.load("falls", project)
rows = verdicts.temperature_rows(corpora, gains, falls)
findings.temperatures(rows)

# %% [markdown]
# ## Is it a trade?
#
# A trade means that, as the temperature rises, the distinct bigrams rise at every step and the
# fidelity falls at every step.

# %%
trade = verdicts.temperature_trades(corpora)
charts.table(trade)

# %% [markdown]
# ## The rule, before the result
#
# For each student on its own corpus, paired per item and within each seed:

# %%
charts.table(verdicts.rules("temperature"))

# %% [markdown]
# Anything else is *undecided*. The claim is about every student.

# %%
judged = verdicts.judged(results.load("contrasts", project), "temperature")
charts.table(verdicts.shown(judged), digits=4)

# %% [markdown]
# ## The mean over students

# %%
charts.table(verdicts.shown(verdicts.across_students(judged)))

# %% [markdown]
# ## Verdict

# %%
charts.said(
    f"{row.results}, {row.method}: that a temperature of {cells.TEMPERATURE:g} serves as well as "
    f"any other is {row.verdict} ({row.reason} contrasts)"
    for row in verdicts.overall(judged).itertuples()
)

# %%
charts.said(
    f"{label}: the trade of coverage for fidelity is seen for {part['trade'].eq('yes').sum()} of "
    f"{len(part)} sources"
    for label, part in trade.groupby("results", sort=False)
)

# %% [markdown]
# ## Runs behind this page

# %%
states = results.load("states", project)
own = states[states["relation"].isin(["self", "untouched"])]
runs = [*corpora["run"].unique(), *reports.runs(own, "untouched", "pairings")]
charts.provenance(results.manifests(project), runs)

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
