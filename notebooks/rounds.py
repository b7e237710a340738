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
# It repeats one recipe a few times for every student. The collapse of models that feed on themselves
# was seen over many more generations {cite:p}`shumailov2024collapse,alemohammad2024selfconsuming`; a
# few rounds can show a direction, not a fate.

# %%
from nbutils.analysis import verdicts
from nbutils.charts import rounds
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("rounds", globals())

# %% [markdown]
# ## Round by round
#
# Round one is the self pairing of the other pages. In every further round the student of the round
# before writes a new corpus and is trained on it. Gains are against the untouched student.

# %% mystnb={"figure": {"name": "fig-rounds", "caption": "Change of utility, held-out extraction and diversity of the corpus over rounds of self-training, one line per student, with intervals."}}
tables = [s.table(name) for name in ("gains", "falls", "corpora")]
rounds.rounds(*tables)

# %% [markdown]
# The same in numbers, with what describes the corpus that each round read:

# %%
s.show(rounds.rounds_table(*tables))

# %% [markdown]
# ## The rule, before the result
#
# A further round *keeps* utility when, paired per item and within each seed:

# %%
s.show(verdicts.rules("rounds"))

# %% [markdown]
# Anything else is *undecided*. Student by student:

# %%
judged = verdicts.judged(s.table("contrasts"), "rounds")
s.contrasts(judged)

# %% [markdown]
# ## The mean over students

# %%
s.contrasts(verdicts.across_students(judged))

# %% [markdown]
# ## Verdict

# %%
s.say(rounds.verdict(judged))

# %% [markdown]
# ## Runs behind this page

# %%
s.footer_of("untouched", "pairings", "rounds")

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
