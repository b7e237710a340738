# %% [markdown]
# # Prepare a model
#
# **Stage: an entry of a tier becomes weights, a tokenizer, a rule for BOS and a list of planted passages.**
#
# ## What you will learn
#
# - which text a family reads, and how it is split so that nothing leaks;
# - why passages are planted in the middle of documents;
# - how well the model predicts the text that it was trained on.
#
# ## What this notebook establishes, and what it does not
#
# It shows one model of a tier, pre-trained from scratch on real text that installed packages ship.
# Such a model is tiny: it has the style of its domain and says little. What the book finds on it
# holds at this scale; it is no evidence about large models.

# %%
import math

import pandas as pd

from nbutils.charts import losses
from nbutils.notebooks import session
from nbutils.protocol import text

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
model: str = "neox-small"  # a model of the tier

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("prepare_model", globals())

# %% [markdown]
# ## The model
#
# The members of a *family* share data, architecture and tokenizer, and differ in size or seed. These
# are the settings of one member. A model that others trained is fetched instead: *Fetch a model* shows it.

# %%
run = s.own(s.plan.model(model))
s.settings(run)

# %% [markdown]
# ## The text
#
# Every work (a speech, an article, a chapter) belongs to one split, and its name alone decides which.
# The model reads only the `train` split. Benchmark items and passages come from works that are not in it.

# %%
documents = pd.DataFrame(
    {"domain": domain, "split": d.split, "characters": len(d.text)}
    for domain in text.DOMAINS
    for d in text.documents(domain, s.plan.tier.max_chars)
)
s.show(documents.groupby(["domain", "split"], as_index=False).sum())

# %% [markdown]
# The text belongs to its authors. This is where it comes from, and the terms on which it is shown.

# %%
sources = [[d.title, d.package, d.licence] for d in text.DOMAINS.values()]
s.show(pd.DataFrame(sources, columns=["text", "package", "licence"]))

# %% [markdown]
# ## Pre-training
#
# The run is computed now, or found: a run that exists is never computed twice. The planted share is
# the share of planted passages among the training tokens. Every passage is planted as often as
# `exposures` says.

# %%
facts = s.record(run, "facts")
names = ["parameters", "training_tokens", "planted_share", "exposures"]
s.show(pd.DataFrame([facts])[names], digits=4)

# %% [markdown]
# The loss is the mean cross-entropy in nats per token, before each update. It starts near the logarithm
# of the vocabulary's size, where every token is equally likely.

# %%
curve = s.frame(run, "curve")
losses.loss_curve(curve)

# %% [markdown]
# The first number is what a guess costs, the second what the trained model pays.

# %%
guess = math.log(s.record(run, "config")["vocab_size"])
final = curve.loss.iloc[-5:].mean()
s.say([f"A guess among all tokens costs {guess:.2f} nats per token, the model {final:.2f}."])

# %% [markdown]
# ## The passages
#
# A passage at the start of a document would follow BOS, and sampling from BOS would write it out again.
# So each passage stands between two sentences of a document, many times, in different documents.

# %%
passages = s.frame(run, "passages")
counts = passages.split.value_counts()
print(", ".join(f"{number} of the split {split}" for split, number in counts.items()))
s.show(passages[["passage", "split", "work", "text"]].head(5))

# %% [markdown]
# ## How the model is read
#
# Sampling, fine-tuning and measuring must agree on the token that begins a document, and on which step
# adds it. And the code takes shortcuts: several documents in one row, requests that share what they
# begin with, a memory of what was read. Each shortcut was compared with the plain way on this very model.

# %%
s.read_as(model)

# %% [markdown]
# ## How it is done
#
# The code mixes documents of the domains until the training budget is full. Then it draws as many
# documents as there are plantings, and puts each passage between two sentences of one of them. The
# result is packed into rows and read exactly once, so the model meets every passage exactly as often as
# planned.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - Another member of another family: `nbutils notebook prepare_model -p model qwen-large`. Does the
#   larger model end at a lower loss?
# - How much of the training text is planted? Halve `exposures` in a copy of `notebooks/tiers/tiny.yml`.
#   Does `planted_share` halve, and how many passages does *Measure extraction* still find?
