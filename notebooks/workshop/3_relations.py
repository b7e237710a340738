# %% [markdown]
# # 3. Whose text?
#
# **One student reads four corpora: its own, a relative's, and two strangers'. Does it matter whose?**
#
# ## What you will learn
#
# - what a relation is, and that it is computed, never typed;
# - what a fair comparison keeps equal;
# - what a control is for.
#
# ## What this exercise establishes, and what it does not
#
# It compares the sources of one student with one seed. The book asks the same of several students, and
# of several seeds where it can.

# %%
import pandas as pd

from nbutils.config.design import Pairing
from nbutils.notebooks import checks, session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "workshop"  # scale: a file under notebooks/tiers/
student: str = "qwen-small"  # model that is fine-tuned on the corpus
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# One call opens the notebook: `s` holds the runs of the tier, and computes and shows them.

# %%
s = session.open("workshop/3_relations", globals())

# %% [markdown]
# ## Gap 1: relations
#
# A family shares tokenizer, architecture and pre-training text. Here are the models and their families.

# %%
family = {name: model.family for name, model in s.plan.tier.models.items()}
family

# %% [markdown]
# <details><summary>Hint: what are the three?</summary>
#
# *self*: source and student are the same model. *lineage*: two members of one family. *cross-family*:
# anything else.
#
# </details>
# <details><summary>Hint: in what order to ask?</summary>
#
# A model is in its own family, too. So ask first whether it is the student.
#
# </details>

# %% gap=["relations"]
# TODO: `relations`, a dictionary from each model in `family` to
# its relation to `student`.
relations = {}
for source in family:
    related = "lineage" if family[source] == family[student] else "cross-family"
    relations[source] = "self" if source == student else related

# %%
print(checks.relations(relations, s.plan.tier, student))

# %% [markdown]
# ## Gap 2: a fair comparison
#
# One pairing for each source. Only the source may differ.

# %% [markdown]
# <details><summary>Hint: what is the same in all?</summary>
#
# The student, the temperature (1), the method (`"full"`) and the seed.
#
# </details>

# %% gap=["pairings"]
# TODO: `pairings`, a dictionary from each source to its pairing.
pairings = {source: Pairing(source, student, 1.0, "full", seed) for source in family}

# %%
print(checks.pairings(pairings, s.plan.tier, student, seed))

# %% [markdown]
# ## Gap 3: a control
#
# Suppose that own text does more than a stranger's. Is it what the text *says*, or merely which words
# it uses? Add a control: the student's own corpus, with the tokens of every document in random order.

# %% [markdown]
# <details><summary>Hint: what is it called?</summary>
#
# `Pairing(...)` takes `control="shuffled"`. The source of a control is the student.
#
# </details>

# %% gap=["control"]
# TODO: `control`, the shuffled control of the student's self
# pairing.
control = Pairing(student, student, 1.0, "full", seed, control="shuffled")

# %%
print(checks.control(control, student, seed))

# %% [markdown]
# ## Before you measure
#
# Write on the board which source you expect to come first and which last. Then compute. The
# models that are missing are pre-trained, corpora sampled and students trained; what exists is reused.

# %%
asked = {source: s.plan.utility(student, pairing) for source, pairing in pairings.items()}
asked["shuffled self"] = s.plan.utility(student, control)
asked["untouched"] = s.plan.utility(student)
s.compute_all(asked.values())

# %% [markdown]
# `s.paired` gives the gain from one table of answers to another, task by task. Its last row is that of
# the whole suite.

# %%
answers = {name: s.frame(run, "utility") for name, run in asked.items()}
untouched = answers.pop("untouched")
suite = [s.paired(untouched, rows).iloc[-1] for rows in answers.values()]
gains = pd.DataFrame(suite).assign(source=list(answers))
gains["relation"] = gains["source"].map(relations).fillna("control")
s.gain_chart(gains)

# %% [markdown]
# ## Gap 4: a contrast
#
# Two intervals that overlap do not say that two sources are equal. Ask directly: how much better are
# the answers after own text than after the *first* stranger's, paired on the same items?

# %%
stranger = next(source for source, relation in relations.items() if relation == "cross-family")
stranger

# %% [markdown]
# <details><summary>Hint: which function?</summary>
#
# `s.paired(first, second)` is the gain from the first to the second table of answers, and both may be
# those of a trained student.
#
# </details>

# %% gap=["contrast"]
# TODO: `contrast`, the table of gains from the answers after the
# stranger's text to those after own.
contrast = s.paired(answers[stranger], answers[student])

# %%
print(checks.contrast(contrast, answers[student], answers[stranger], untouched))

# %% [markdown]
# Task by task, and for the suite, as fractions:

# %%
s.show(contrast[["task", "gain", "low", "high"]])

# %% [markdown]
# Compare with what you wrote on the board. Then look at the control: if shuffled text does as little
# harm as whole text, then the order of the words was not what mattered to the *suite*.
#
# ## Where this comes from

# %%
s.footer(*asked.values())

# %% [markdown]
# ## If there is time
#
# - Look at single tasks. In whose domain does a stranger's text cost most, and in whose does it help?
# - Another control: `"noise"` moves the weights as far in a random direction.
