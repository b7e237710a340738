# %% [markdown]
# # Fetch a model
#
# **Stage: a model that others trained becomes a folder of the store, with a rule for BOS, proven shortcuts and a list of passages.**
#
# ## What you will learn
#
# - where a pretrained model comes from, and what pins it;
# - which token begins its documents, and who adds that token;
# - which shortcuts of computing are right for it, and how that is found out.
#
# ## What this notebook establishes, and what it does not
#
# It shows that the model is here, whole, and read as it was trained to read. What the model learnt from
# is known only as far as its authors published it. So a passage is a text that the model has probably
# read, where a model that is made here has certainly read it.

# %%
import pandas as pd

from nbutils.charts import fetch_model
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "smol"  # scale: a file under notebooks/tiers/
model: str = "smollm2-135m"  # a pretrained model of the tier

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("fetch_model", globals())

# %% [markdown]
# ## The origin
#
# A model comes from the hub at one full revision, from a folder, from a GGUF file or from a package.
# Weights are read from safetensors or GGUF only, never from pickles, and the model's own code is never
# run. A weight that is missing, left over or of another shape refuses the whole model.

# %%
run = s.own(s.plan.model(model))
member = s.plan.tier.models[model]
origin = {"origin": member.origin, "family": member.family, "licence": member.licence}
s.show(pd.DataFrame(origin.items(), columns=["", model]))

# %% [markdown]
# A name is not an identity: two models are one where their files have the same content, wherever they
# lie. `content` is the hash of those files; for a model of the hub, the revision says as much.

# %%
s.settings(run)

# %% [markdown]
# ## What is known of it
#
# The number of weights is counted. Training tokens and planted passages are facts of a pre-training
# that did not happen here, so they are missing.

# %%
facts = s.record(run, "facts")
names = ["parameters", "training_tokens", "planted_share", "exposures"]
s.show(pd.DataFrame([facts])[names])

# %% [markdown]
# ## How the model is read
#
# A document begins with the token that the tier names, else with the model's own BOS, else with EOS.
# Contexts of benchmark items begin with it where the tokenizer adds it by itself, unless the tier says
# otherwise; so do prompts of passages.

# %%
s.read_as(model)

# %% [markdown]
# ## The shortcuts
#
# Each shortcut was compared with the plain way twice: in 32 bits on a small copy of the architecture
# with random weights, then on the model itself in the precision in which it computes here. The numbers
# are differences of logits, as shares of the largest logit. A shortcut is taken where both stay within
# what is allowed.

# %%
s.show(fetch_model.shortcuts(facts))

# %% [markdown]
# Kernels differ between devices and between versions, so the finding holds for these alone.

# %%
s.say([f"Tried with transformers {facts['tried']['transformers']} on {facts['tried']['device']}."])

# %% [markdown]
# ## The passages
#
# Pythia models bring sequences that they are known to have memorised. For other models, passages are
# beginnings of public works, which large training corpora usually hold.

# %%
passages = s.frame(run, "passages") if s.plan.has_passages(model) else pd.DataFrame()
s.show(passages.filter(["passage", "split", "work", "text"]).head(5))

# %% [markdown]
# ## How it is done
#
# The code reads the model from a folder that holds only the files that identify it. It settles which
# token begins a document, saves the weights as safetensors and loads them again as later stages
# will. Then it tries every shortcut on what it loaded, and writes down what it found.

# %%
s.method()

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - A model of your own: name it in a copy of `notebooks/tiers/smol.yml` with `origin: folder:PATH`, then
#   `nbutils notebook fetch_model -p tier mine -p model NAME`.
# - Does any shortcut differ from the plain way? Which later stage becomes slower by it?
# - Set `bos` in the tier to another token of the vocabulary. Which of the sentences above change?
