# %% [markdown]
# # Not all synthetic data is yours to learn from
#
# **The question.** Can a language model improve by reading plain text that a model made up, with no
# prompt, no filter and no task in mind? {cite:t}`alemohammad2026synthetic` answer: yes, but only when
# the text is compatible with the student. This book executes the question; the answer below is computed.

# %% tags=["remove-cell"]
from nbutils.analysis import verdicts
from nbutils.charts import opening
from nbutils.notebooks import session

# %% tags=["parameters", "remove-cell"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% tags=["remove-cell"]
s = session.open("opening", globals())
tables = {name: s.table(name) for name in ("gains", "falls", "contrasts", "proxies")}
strongest = opening.strongest(tables["gains"])

# %% tags=["remove-input"]
opening.cards(opening.answers(tables, strongest), strongest)

# %% tags=["remove-input"] mystnb={"figure": {"name": "fig-opening", "caption": "What training on sampled text did to every student that had memorised passages, by full fine-tuning at the usual temperature. A line begins at the student as it was and ends where one corpus left it: to the right it gained, further down it forgot more of what it had memorised. The claim says that blue and green lines fall straight down."}}
opening.picture(verdicts.decoupling_pairings(tables["gains"], tables["falls"]), strongest)

# %% [markdown]
# ## What is asked, and how it is measured
#
# A **source** writes a corpus: it starts from nothing but the beginning-of-sequence token and samples
# document after document. A **student**, a base model, is fine-tuned on that corpus. Then the student
# answers the same benchmark items as before, and is asked to complete passages it may have memorised.
#
# Source and student stand in one of three relations. They are the same model (**self**), they are
# siblings (**lineage**: same tokenizer, same architecture, same pre-training data), or they are
# strangers (**cross-family**). The claim is that this relation decides what the corpus is worth.
# **Controls** stand beside them. In a control no model wrote the corpus, or nothing was learnt from it.
#
# ## What it does not show
#
# The models that this book makes from nothing are thousands of times smaller than those of the paper.
# They are big enough to show how each quantity is measured, and where an ordering appears they show that
# too. They are not evidence about large models. Where a result at this scale disagrees with the paper,
# the page says so as plainly as where it agrees.
#
# For each claim the answer above gives one number, whichever way the verdict went: the contrast, as a mean
# over students in points, that speaks most against it, or the pairing that forgot least. Its interval
# stands in brackets, followed by how the parts of the claim came out. A verdict is about every student, so
# one student for whom the opposite holds contradicts, whatever the mean. Each page gives all numbers, and
# the rule.
#
# ## Four findings
#
# ::::{grid} 1 1 2 2
# :gutter: 3
#
# :::{grid-item-card} Relational utility
# :link: relational_utility
# :link-type: doc
# Self and lineage corpora serve a student better than a stranger's, even a stronger stranger's.
# :::
#
# :::{grid-item-card} Proxies fail
# :link: proxies_fail
# :link-type: doc
# Neither resemblance to the benchmark nor likelihood under the student predicts which corpus will help.
# :::
#
# :::{grid-item-card} Memorization decoupling
# :link: memorization_decoupling
# :link-type: doc
# Utility stays while text that was memorised word for word is no longer reproduced.
# :::
#
# :::{grid-item-card} Temperature
# :link: temperature
# :link-type: doc
# Coverage is traded for fidelity. What does that do to gain and extraction?
# :::
# ::::
#
# ## Beyond the paper
#
# ::::{grid} 1 1 2 2
# :gutter: 3
#
# :::{grid-item-card} Trajectories
# :link: trajectories
# :link-type: doc
# Utility and extraction step by step: is there a good moment to stop?
# :::
#
# :::{grid-item-card} Rounds
# :link: rounds
# :link-type: doc
# What happens when a student trains on its own text again, and again?
# :::
#
# :::{grid-item-card} Recipe map
# :link: recipe_map
# :link-type: doc
# Where, if anywhere, does self-training gain?
# :::
#
# :::{grid-item-card} Compatibility diagnostics
# :link: compatibility_diagnostics
# :link-type: doc
# Can one of six numbers predict, before training, which corpus suits a student?
# :::
# ::::
#
# Each card states a claim or a question, not a result.
#
# ## Three ways in
#
# - **Read.** Start with [how to read this book](../how-to-read.md), then take any finding. The charts
#   are live: hover, click, choose, or move through them with the arrow keys.
#   [Explore](../explore.md) opens any pairing.
# - **Re-execute.** [Run the protocol](../re-execute.md), whole or with a pairing of your own.
# - **Teach.** [A workshop](../workshop/guide.md) of ninety minutes, on two processor cores and without a
#   network: its models are made from nothing, on text that installed packages ship.
#
# ## Runs behind this page

# %% tags=["remove-input"]
s.footer_of("untouched", "pairings", "controls", also=tables["proxies"]["run"])
