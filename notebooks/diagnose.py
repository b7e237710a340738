# %% [markdown]
# # Diagnose a pairing
#
# **Stage: a corpus and its source are compared with a student, without a look at any benchmark.**
#
# ## What you will learn
#
# - six ways to ask whether a text is compatible with a student;
# - what the value of each one means, and what its extremes are;
# - how far the sources of a tier differ in them for one student.
#
# ## What this notebook establishes, and what it does not
#
# It computes the diagnostics of one corpus for one student. A single value predicts nothing. Whether
# any of them ranks corpora by the gain that they bring is asked in *Compatibility diagnostics*, over all
# pairings.

# %%
from nbutils.charts import diagnose, pairing
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("diagnose", globals())

# %% [markdown]
# ## The diagnostics
#
# Where a diagnostic compares with the student's own corpus, that corpus has another seed. So a student
# that reads its own text is compared with other text of its own, not with the same text. Where source
# and student are one model, the gap is zero, and overlap and similarity are one, by definition.

# %%
run = s.plan.diagnose(source, student, temperature, seed)
s.show(diagnose.meanings(s.frame(run, "diagnostics")))

# %% [markdown]
# ## The same student, every source
#
# Every corpus at this temperature, for this student. Compare the columns, not the numbers within a row:
# the diagnostics have different units.

# %%
rows = s.over_sources(s.plan.diagnose, "diagnostics")
s.show(pairing.by_source(rows, "diagnostic"))

# %% [markdown]
# ## How it is done
#
# The code computes the student's gradient on both corpora, in one vector each, and compares their
# directions. It lets both models read both texts, and counts per character, because tokens of two
# tokenizers cannot be compared. Hidden states are means over each text, and bigrams are counts of pairs
# of words.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - A stranger's text: `nbutils notebook diagnose -p source llama-large`. Does `gradient_cosine` fall below
#   zero, and what would one step on that corpus do to the loss on the student's own text?
# - Which two diagnostics order the sources in the same way? Why might they?
# - Hotter text: `nbutils notebook diagnose -p temperature 1.3`. Which diagnostics change, and which
#   cannot?
