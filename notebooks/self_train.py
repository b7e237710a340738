# %% [markdown]
# # Self-train a student
#
# **Stage: a student is fine-tuned on a corpus, in all its weights or through a LoRA adapter.**
#
# ## What you will learn
#
# - what the student sees: documents between BOS and EOS, packed without attention across them;
# - how its loss moves on text by itself and by others;
# - how far its weights move.
#
# ## What this notebook establishes, and what it does not
#
# It shows one fine-tune and its loss on the corpus. A falling loss says that the student learns the
# corpus. Whether that is of use is measured on the benchmark suite, not here.

# %%
import pandas as pd

from nbutils.charts import losses
from nbutils.notebooks import session
from nbutils.protocol import models

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # model that writes the corpus
student: str = "neox-small"  # model that is fine-tuned on the corpus
temperature: float = 1.0  # sampling temperature, from 0.01 to 5
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("self_train", globals())

# %% [markdown]
# ## The pairing
#
# A source, a student, a temperature, a method and a seed name one fine-tune. The relation of the two
# models is computed from the tier.

# %%
run = s.plan.self_train(s.pairing)
s.say([f"{s.pairing}: {run.labels['relation']}"])

# %% [markdown]
# Every pairing of a tier gets the same recipe: the same number of steps, and the same number of tokens
# per step.

# %%
s.settings(run)

# %% [markdown]
# ## Training
#
# The corpus is text, so the student reads it with its own tokenizer. The loss is the mean cross-entropy
# in nats per token of the student, before each update.

# %%
curve = s.frame(run, "curve")
losses.loss_curve(curve)

# %% [markdown]
# On its own text a student has little to learn: the loss starts near the entropy of its own samples, and
# has little room to fall. Compare it with the loss on another family's text.

# %%
first, last = curve.loss.iloc[:3].mean(), curve.loss.iloc[-3:].mean()
s.say([f"First three steps: {first:.3f} nats per token; last three: {last:.3f}."])

# %% [markdown]
# ## How far the weights moved
#
# The norm of the update, as a share of the norm of the weights. The control *noise* moves the weights
# as far in a random direction.

# %%
moved = models.moved(s.compute(run.inputs["student"]), s.compute(run))
s.say([f"The update is {moved:.2%} of the weights."])

# %% [markdown]
# ## What was written
#
# Weights are safetensors, never pickles. An adapter is much smaller than a model.

# %%
files = [{"file": p.name, "KiB": p.stat().st_size / 1024} for p in sorted(s.compute(run).iterdir())]
s.show(pd.DataFrame(files), digits=1)

# %% [markdown]
# ## How it is done
#
# The code reads the corpus with the student's tokenizer, puts BOS before and EOS after every document,
# and packs documents into rows in which no document attends to another. It then minimises the
# next-token loss, with AdamW or, where the recipe gives a rate for it, with Muon on the hidden matrices.
# It trains all weights, or an adapter on every linear layer. The second function is the training itself,
# step by step; pre-training runs through it, too.

# %%
s.method("protocol.self_train", "protocol.training")

# %% [markdown]
# ## Where this comes from

# %%
s.footer(run)

# %% [markdown]
# ## Try it
#
# - The same student on foreign text: `nbutils notebook self_train -p source llama-large`. Where does the
#   loss start, and how far does it fall?
# - An adapter instead: `nbutils notebook self_train -p method lora`. Compare the sizes of the files.
