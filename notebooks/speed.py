# %% [markdown]
# # How fast

# %%
from nbutils.charts import speed
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
root: str = "."  # project folder; the nearest one upwards if "."

# %% [markdown]
# A misspelt name or a wrong value stops here.

# %%
s = session.open("speed", globals())
found = s.measured(speed.MEASURED)
measured = speed.rows(found)

# %% [markdown]
# ## The answer

# %%
s.say([speed.answer(measured)])

# %% mystnb={"figure": {"name": "fig-speed", "caption": "Throughput of every way (our own in blue) with its range over repeats, a panel per contest. Above each dot stands its ratio to the best peer of that contest."}}
speed.throughput(measured)

# %% [markdown]
# ## What was asked
#
# The protocol samples, trains and scores. Each of these a reader could do with a library: `generate`
# and `generate_batch` or `Trainer` of transformers, or lm-eval. Does the code of this book do it faster,
# and why?
#
# Such a comparison is easily won by a weak opponent. So every peer is run at the settings that a
# knowledgeable user would try: with a static cache, with continuous batching, on batches grouped by
# length, on packed rows, at several fixed batch sizes. **The ratio is to the fastest of them**, and a peer may
# choose its batch size freely, while our way runs as the book runs it. All settings that were tried are
# shown, the bad ones too.
#
# The work is the book's own: the model `neox-small` of the tier *tiny* samples documents of the length
# that it has learned, is trained on the corpus it wrote, and answers the suite. The weights are the same
# for all ways, which take turns in one process with one thread, as the book's runs have it. What
# counts is CPU time, which other work on the machine does not add to; wall time stands beside it.
#
# ## What makes the difference
#
# - **Sampling: finished rows leave.** In a batch of `generate`, every document is continued until the
#   longest one has ended. Our way drops rows once a quarter of them has ended, and the matrices shrink. It
#   also makes room in the cache for sixteen tokens at a time, where the usual cache is copied for each
#   new token. `generate_batch` refills the place of an ended document at once, so it reads nothing in
#   vain; what it loses, it loses in bookkeeping for each token.
# - **Training: packing.** A batch of whole documents is padded to its longest. Packed rows hold several
#   documents, which do not attend to each other, and hardly any padding. That is an idea, not a faster
#   loop: `Trainer` takes packed rows too, if someone packs them.
# - **Scoring: trees of requests.** The choices of an item share its context, and items cut from one
#   document share its beginning. Merged into a tree, shared text is read once.
#
# The number of tokens that the model has to read shows this on any machine:

# %%
s.say(speed.sentences(measured))

# %% [markdown]
# ## What this page used to claim
#
# An earlier version of this page claimed more. Its arithmetic was right and its peers were not at their
# best. The table has the claim, the same ratio measured as above (the book's model, one thread), and
# the ratio to the best peer.

# %%
s.show(speed.corrected(measured))

# %% [markdown]
# ## What it does not show
#
# - One small model on one CPU. With larger models the time goes into matrix products, which all ways share:
#   what is left is what a way reads in vain. Accelerators differ again: see below.
# - Servers made for sampling alone, such as vLLM or llama.cpp, were not tried.
# - lm-eval keeps a cache of logits unless told otherwise, and in the version used here it gives some
#   items of this suite the answer to another one. It is faster with it and counts as a peer all the
#   same; without it, its answers are ours.
# - Continuous batching has no setting of its own for CPUs. It got as many places as were fastest in a
#   trial.
#
# ## On an accelerator
#
# `make gpu` asks the same of an accelerator, with random weights in the shapes of published models.
# Tests come first: log-probabilities of samples, loss, gradients, scores and extraction against the CPU,
# the same in `bfloat16`, a training that is killed, and one that runs out of memory.

# %%
on_accelerator = s.measured(speed.ON_ACCELERATOR)
s.say([speed.tested_on(on_accelerator)])

# %% [markdown]
# The contests there, at the wall clock. A peer that is missing was cut, or failed:

# %%
s.show(speed.on_accelerator(on_accelerator))

# %% [markdown]
# Right, and not yet fast. This code was made for CPUs: it trains a row or two at a time to bound the memory
# of the logits, reads trees of a few hundred tokens, and waits for the device after every token. A
# large accelerator then idles, and a library that fills it wins, in training and scoring by far. Until
# that is mended, take the times of a CPU from this page, and none for an accelerator. Larger models, several
# accelerators and pretrained weights were not tried.
#
# ## How it was measured
#
# Each way does its work two or three times, in turns with the others; the dot is the median and the
# line reaches from the slowest turn to the fastest. The limits of a ratio set the slowest turn of one against
# the fastest of the other. Tokens count that stay in documents (sampling) or are predicted (training).
# The time of a way includes what a user waits for: making the trainer, encoding the suite.
# Our way encodes a suite once for all models with one tokenizer: the first of them and every
# later one are two rows, and the ratio is that of a later one, as most are.

# %%
s.show(speed.speed_table(measured))

# %% [markdown]
# *Tokens read* are those that the model read for each that counts, or for each item.
# *Of the ceiling* is the rate of a way's matrix products, as a share of what this machine
# reaches when it multiplies nothing but the model's own matrices, so many rows at a time:

# %%
s.show(speed.ceilings(measured))

# %% [markdown]
# ## What is behind the chart

# %%
s.show(speed.machine(found))
s.note(speed.description(found))

# %% [markdown]
# ## Try it
#
# ```
# make bench
# nbutils notebook speed
# ```
#
# - Which peer has the highest share of the ceiling, and why is it not the fastest?
# - From which batch on does sampling no longer gain? What is the bottleneck then?
#
# *Answers.* A way can multiply fast what need not be multiplied: look at the tokens it reads. A larger
# batch makes larger matrices, until reading and moving the cache, which grows with the batch, takes the
# time.
