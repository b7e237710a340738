# %% [markdown]
# # 2. Train on your own text
#
# **A student reads what it wrote itself. Does it get better?**
#
# ## What you will learn
#
# - where the loss curve of a student on its own text begins, and why;
# - how a gain is paired, item by item;
# - how to read an interval, and when to say that you cannot tell.
#
# ## What this exercise establishes, and what it does not
#
# It measures one fine-tune of one student. Its interval says what other items would have given; it
# says nothing about other seeds. For those there is the board.

# %%
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
s = session.open("workshop/2_train", globals())

# %% [markdown]
# ## Gap 1: the pairing
#
# A pairing has a source and a student, and with them a temperature, a method and a seed. Make the one in
# which the student reads its own text, sampled at temperature 1, and trains all its weights.

# %% [markdown]
# <details><summary>Hint: how is a pairing written?</summary>
#
# `Pairing(source, student, temperature, method, seed)`; the method is `"full"`.
#
# </details>

# %% gap=["pairing"]
# TODO: `pairing`, the self pairing of `student` at temperature 1,
# method "full", with `seed`.
pairing = Pairing(student, student, 1.0, "full", seed)

# %%
print(checks.self_pairing(pairing, student, seed))

# %% [markdown]
# ## Gap 2: where will the loss begin?
#
# Before you train, predict. The loss is the mean of minus the log-probability that the student gives to
# each next token. The corpus says what the source gave to each, and the source is the student.

# %%
corpus = s.frame(s.plan.read_corpus(pairing), "corpus")
s.show(corpus[["n_tokens", "mean_log_prob", "text"]].head(3), digits=2)

# %% [markdown]
# <details><summary>Hint: have you done this before?</summary>
#
# It is the fidelity of exercise 1, but for its sign.
#
# </details>

# %% gap=["expected"]
# TODO: `expected`, the loss in nats per token with which training
# on `corpus` should begin.
expected = -(corpus["mean_log_prob"] * corpus["n_tokens"]).sum() / corpus["n_tokens"].sum()

# %%
print(checks.first_loss(expected, corpus))

# %% [markdown]
# Now train, and see.

# %%
curve = s.frame(s.plan.self_train(pairing), "curve")
print(f"expected {expected:.2f}, begins at {curve['loss'].iloc[0]:.2f} nats per token")
s.loss_curve(curve)

# %% [markdown]
# A student's own text holds little that is new to it, so the loss has little room to fall. Does it?
#
# ## Gap 3: the gain
#
# The untouched student and the trained one answered the same items. `before` and `after` have one row
# per item.

# %%
before = s.frame(s.plan.utility(student), "utility")
after = s.frame(s.plan.utility(student, pairing), "utility")
after.head(3)

# %% [markdown]
# The suite's accuracy is the plain mean over its tasks, whatever their number of items.

# %% [markdown]
# <details><summary>Hint: what is paired?</summary>
#
# Both tables have their items in the same order, so `after["correct"].astype(int) -
# before["correct"].astype(int)` is the change of every item: 1 won, 0 unchanged, -1 lost.
#
# </details>
# <details><summary>Hint: from items to the suite?</summary>
#
# First the mean within each task (`.groupby(before["task"]).mean()`), then the mean of those.
#
# </details>

# %% gap=["gain"]
# TODO: `gain`, the suite's accuracy after less that before: a
# fraction, not points.
change = after["correct"].astype(int) - before["correct"].astype(int)
gain = change.groupby(before["task"]).mean().mean()

# %%
print(checks.gain(gain, before, after))

# %% [markdown]
# ## Gap 4: say what it means
#
# `s.paired` gives the same gain with its 95 % interval: how much it would vary, had other documents been
# cut into items.

# %%
gains = s.paired(before, after)
s.gain_table(gains)

# %% [markdown]
# <details><summary>Hint: what decides?</summary>
#
# Not the gain, but its interval in the row `suite`: on which side of zero does the *whole* of it lie?
#
# </details>

# %% gap=["reading"]
# TODO: `reading`, computed from the suite's row:
# "a gain", "a loss" or "not told apart".
low, high = gains.loc[gains["task"] == "suite", ["low", "high"]].iloc[0]
reading = "a gain" if low > 0 else "a loss" if high < 0 else "not told apart"

# %%
print(checks.reading(reading, gains))

# %% [markdown]
# Put your gain and its interval on the board. Neighbours with another seed have another corpus and
# another gain: do the intervals that you see overlap?
#
# ## Where this comes from

# %%
s.footer(s.plan.utility(student, pairing))

# %% [markdown]
# ## If there is time
#
# - The column *detectable* says how large a gain must be for this suite to find it four times out of
#   five. What would you change to find a smaller one?
# - An adapter instead of all weights: method `"lora"`.
