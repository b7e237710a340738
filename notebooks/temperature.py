# %% [markdown]
# # Temperature
#
# **The claim.** Sampling temperature trades coverage for fidelity, and the student's own
# distribution, temperature 1, serves it at least as well as a sharper or a flatter one.
#
# ## What you will learn
#
# - what coverage and fidelity mean for a corpus sampled from BOS alone;
# - how both change with the temperature, for every source;
# - what that does to gain and to extraction.
#
# ## What this notebook establishes, and what it does not
#
# It varies one thing, the temperature, for the self pairings of a tier. Coverage is measured by
# distinct bigrams, which also grow when text turns to noise; fidelity by the source's own
# log-probabilities, which say nothing about truth. Three temperatures show a direction, not an
# optimum.

# %%
from pathlib import Path

from nbutils import charts, findings, results, verdicts

charts.enable()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder that holds book/results and runs/tables
seed: int = 0  # seed of the bootstrap

# %%
project = Path(root)
if not project.is_dir():
    raise ValueError(f"root: {root!r} is not a folder")
if seed < 0:
    raise ValueError(f"seed: {seed} is below 0")
labels = [tier.label for tier in results.available(project)]
print("Results:", ", ".join(labels) or "none yet (run: nbutils run tiny)")

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
# **Coverage** is the share of bigrams in the corpus that are distinct. **Fidelity** is the mean
# log-probability of the sampled tokens under the source at temperature 1.

# %%
corpora = results.load("corpora", project)
charts.corpus_table(corpora)

# %% [markdown]
# ## Four quantities, one slider
#
# Move the slider in {numref}`fig-temperature` to mark one temperature in all three panels.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Self pairings over sampling temperatures: coverage against fidelity of the corpus, the gain after training on it (95 % interval), and what is still extracted (exact 95 % interval)."}}
gains = results.load("gains", project)
extraction = results.load("extraction", project)
rows = verdicts.temperature_rows(corpora, gains, extraction)
findings.temperatures(rows)

# %% [markdown]
# ## Is it a trade?
#
# For each source the rank of the temperature is compared with the ranks of coverage and of
# fidelity. A trade means that, as the temperature rises, coverage rises every time and fidelity
# falls every time.

# %%
trade = verdicts.temperature_trades(corpora)
charts.table(trade)

# %% [markdown]
# ## The rule, before the result
#
# For each student on its own corpus, the gain at temperature 1 minus the gain at every other
# temperature, paired per item. Each contrast must exceed a loss of half a point with its
# whole interval; one that lies wholly below contradicts; anything else is undecided. The claim is
# about every student.

# %%
judged = verdicts.temperature_verdicts(results.load("utility", project), seed)
charts.table(judged)

# %% [markdown]
# ## Verdict

# %%
charts.table(verdicts.overall(judged))

# %%
for row in verdicts.overall(judged).itertuples():
    print(f"{row.results}, {row.method}: the claim is {row.verdict} ({row.reason} students)")

# %% [markdown]
# ## Runs behind this page

# %%
runs = [*corpora["run"].unique(), *rows["run"].unique()]
charts.provenance(results.manifests(project), runs)

# %% [markdown]
# ## Try it
#
# ```
# nbutils run tiny
# nbutils notebook temperature -p seed 1
# ```
#
# - At which temperature does a corpus hold most of the planted passages, and is that where the
#   student forgets least?
# - Sketch what you expect at temperature 0. What would the corpus look like?
