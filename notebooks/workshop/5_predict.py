# %% [markdown]
# # 5. Predict which source helps, then measure
#
# **A proxy scores a corpus before anyone trains on it. Would you have chosen the right source by it?**
#
# ## What you will learn
#
# - two proxies: likeness to the benchmark, and likelihood under the student;
# - to write the rule of decision down before the result;
# - what a wrong choice costs: the regret.
#
# ## What this exercise establishes, and what it does not
#
# It tries two proxies on the four sources of one student. Four sources cannot show that a proxy works.
# They can show that it does not always.

# %%
from dataclasses import replace

import pandas as pd

from nbutils.notebooks import checks, session

# %% [markdown]
# ## Parameters
#
# Another student than before: you have not seen its gains yet.

# %% tags=["parameters"]
tier: str = "workshop"  # scale: a file under notebooks/tiers/
student: str = "llama-small"  # model that is fine-tuned on the corpus
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# One call opens the notebook: `s` holds the runs of the tier, and computes and shows them. This exercise
# leaves one proxy out, a sentence encoder, since it takes its time.

# %%
s = session.open("workshop/5_predict", globals())
plan = replace(s.plan, encoder=False)

# %% [markdown]
# ## The proxies
#
# *Semantic similarity* is the cosine between what a corpus and what the benchmark's items are about,
# here by TF-IDF. *Log-likelihood* is that of the corpus under the untouched student, in nats per token.
# A higher value of either is said to predict a higher gain.

# %%
asked = {source: plan.proxies(source, student, 1.0, seed) for source in plan.tier.models}
s.compute_all(asked.values())
values = {source: s.frame(run, "proxies") for source, run in asked.items()}
means = {source: rows.groupby("proxy")["value"].mean() for source, rows in values.items()}
scores = pd.DataFrame(means).T
scores

# %% [markdown]
# ## Gap 1: the predictions
#
# Which source does each proxy choose?

# %% [markdown]
# <details><summary>Hint: is there a method for that?</summary>
#
# `scores[proxy].idxmax()` is the source with the highest value.
#
# </details>

# %% gap=["predicted"]
# TODO: `predicted`, a dictionary from each proxy (a column of
# `scores`) to the source it chooses.
predicted = {proxy: scores[proxy].idxmax() for proxy in scores.columns}

# %%
print(checks.predicted(predicted, scores))

# %% [markdown]
# ## Gap 2: the rule, before the result
#
# The claim to be judged: *the source that a proxy chooses brings more than the source it puts last.*
# Its contrast is the accuracy after the one less that after the other, with a 95 % interval. Write the
# rule that turns an interval into a verdict. Once you have seen the result it is too late.

# %% [markdown]
# <details><summary>Hint: which verdicts are there?</summary>
#
# *supported* when the whole interval lies above zero, *contradicted* when the whole of it lies below,
# *undecided* otherwise.
#
# </details>


# %% gap=["verdict"]
# TODO: `verdict`, a function of (low, high) that returns
# "supported", "contradicted" or "undecided".
def verdict(low, high):
    """Judge the claim by the interval of its contrast."""
    if low > 0:
        return "supported"
    return "contradicted" if high < 0 else "undecided"


# %%
print(checks.rule(verdict))

# %% [markdown]
# ## Measure

# %%
pairings = {source: replace(s.pairing, source=source) for source in plan.tier.models}
measured = {source: plan.utility(student, pairing) for source, pairing in pairings.items()}
s.compute_all([plan.utility(student), *measured.values()])

# %% [markdown]
# The gain from each source, on the whole suite:

# %%
untouched = s.frame(plan.utility(student), "utility")
answers = {source: s.frame(run, "utility") for source, run in measured.items()}
suite = [s.paired(untouched, rows).iloc[-1] for rows in answers.values()]
gains = pd.DataFrame(suite).assign(source=list(answers))
gains["relation"] = [plan.tier.relation(source, student) for source in gains["source"]]
s.gain_chart(gains)

# %% [markdown]
# Your rule judges each proxy's claim.

# %%
judged = []
for proxy, first in predicted.items():
    last = scores[proxy].idxmin()
    gain, low, high = s.paired(answers[last], answers[first]).iloc[-1][["gain", "low", "high"]]
    judged.append((proxy, first, last, 100 * gain, 100 * low, 100 * high, verdict(low, high)))
columns = ["proxy", "chosen", "put last", "contrast (points)", "low", "high", "verdict"]
s.show(pd.DataFrame(judged, columns=columns), digits=2)

# %% [markdown]
# ## Gap 3: the regret
#
# To choose by a proxy costs what the best source would have brought more.

# %%
brought = dict(zip(gains["source"], gains["gain"], strict=True))
brought

# %% [markdown]
# <details><summary>Hint: which sign?</summary>
#
# Never negative: the highest gain of all, less the gain of the chosen source.
#
# </details>

# %% gap=["regret"]
# TODO: `regret`, a dictionary from each proxy to the gain lost by
# its choice, a fraction.
regret = {proxy: max(brought.values()) - brought[source] for proxy, source in predicted.items()}

# %%
print(checks.regret(regret, brought, predicted))

# %% [markdown]
# And if you had chosen by relation alone: own text first? Or at random?

# %%
best, mean = max(brought.values()), sum(brought.values()) / len(brought)
lost = {f"by {proxy}": value for proxy, value in regret.items()}
lost |= {"own text": best - brought[student], "at random, on average": best - mean}
shown = pd.DataFrame(lost.items(), columns=["choice", "regret (points)"])
s.show(shown.assign(**{"regret (points)": 100 * shown["regret (points)"]}), digits=2)

# %% [markdown]
# One student, one seed, four sources: put your regrets on the board, and look at those of others before
# you conclude anything. *Proxies fail*, in the book, does so over students.
#
# ## Where this comes from

# %%
s.footer(*asked.values(), *measured.values())

# %% [markdown]
# ## If there is time
#
# - The same with `student` of exercise 2, whose gains you knew. Would you have chosen the same proxy?
# - *Compatibility diagnostics*, in the book, has six numbers that use no benchmark: could one replace
#   a proxy?
