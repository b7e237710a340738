# %% [markdown]
# # Rounds
#
# **The question.** A student that trained on its own text can write again. What happens to utility,
# extraction and diversity when self-training is repeated?
#
# ## What you will learn
#
# - how each round starts: from the weights, and with the text, of the one before;
# - what every round adds or takes, with intervals over seeds;
# - whether the text narrows from round to round.
#
# ## What this notebook establishes, and what it does not
#
# It repeats one recipe a few times for every student. Collapse of models that feed on themselves is
# known from many more generations {cite:p}`shumailov2024collapse,alemohammad2024selfconsuming`; a few
# rounds can show a direction, not a fate.

# %%
from nbutils.analysis import experiments, verdicts
from nbutils.charts import parts, provenance, rounds
from nbutils.charts.tables import contrast_table, runs, sentences, table
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
# ## Round by round
#
# Round one is the self pairing of the other pages. In every further round the student of the round
# before writes a new corpus and is trained on it. Gains are against the untouched student.

# %% mystnb={"figure": {"name": "fig-rounds", "caption": "Change of utility, held-out extraction and diversity of the corpus over rounds of self-training, one line a student, with intervals."}}
gains = load("gains", project)
falls = load("falls", project)
corpora = load("corpora", project)
rows = experiments.round_rows(gains, falls, corpora)
rounds.rounds(rows)

# %%
table(rounds.rounds_table(rows))

# %% [markdown]
# ## The rule, before the result
#
# A further round *keeps* utility when, paired per item and within each seed:

# %%
table(verdicts.rules("rounds"))

# %%
judged = verdicts.judged(load("contrasts", project), "rounds")
table(contrast_table(judged), digits=4)

# %% [markdown]
# ## The mean over students

# %%
table(contrast_table(verdicts.across_students(judged)))

# %% [markdown]
# ## Verdict

# %%
sentences(
    f"{row.results}, {row.method}: that utility is kept is {row.verdict} ({row.reason} contrasts)"
    for row in verdicts.overall(judged).itertuples()
)

# %% [markdown]
# ## Runs behind this page

# %%
states = load("states", project)
provenance.footer(manifests(project), runs(states, "untouched", "pairings", "rounds"))

# %% [markdown]
# ## Try it
#
# ```
# nbutils run lab
# nbutils notebook rounds
# ```
#
# - Does extraction fall by the same share each round, or by less and less?
# - Give a tier more rounds (`rounds` under `grid` in its file). Where does utility break?
