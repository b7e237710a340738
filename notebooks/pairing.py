# %% [markdown]
# # One pairing
#
# **One question.** Does this student gain from text of this source?
#
# ## What you will learn
#
# - how to give the protocol a source and a student of your own, and a budget;
# - what the whole chain says of them: gain, proxies, diagnostics, extraction, samples;
# - what it cost, and which runs it is made of.
#
# ## What this notebook establishes, and what it does not
#
# It reports one pairing with one seed. Its intervals speak about other items, not about other seeds.
# Whether the relation of the two models matters can only be seen beside other relations. A tier measures
# both.

# %%
from nbutils.charts import losses, pairing
from nbutils.notebooks import session

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
tier: str = "tiny"  # scale: a file under notebooks/tiers/
source: str = "neox-small"  # a model of the tier, or an origin: hub:, folder:, gguf:, wheel:
student: str = "neox-small"  # likewise
temperature: float = 1.0  # sampling temperature
method: str = "full"  # full (every weight) or lora (an adapter)
seed: int = 0  # seed of sampling and of fine-tuning
tokens: int = 0  # corpus tokens; the tier's own if 0
steps: int = 0  # fine-tuning steps; the tier's own if 0
tasks: list = []  # lm-eval tasks; the tier's own if empty

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before anything is loaded.

# %%
s = session.open("pairing", globals())
runs = s.report_runs()
s.say([f"{s.pairing}: {s.plan.tier.relation(s.pairing.source, s.pairing.student)}"])

# %% [markdown]
# ## What it will cost
#
# Before any time is spent. A run that exists is found again and costs nothing.

# %%
s.cost(runs)

# %% [markdown]
# ## The gain
#
# The accuracy on the suite after training minus the accuracy before, in percentage points, with its
# interval over other items.

# %%
gains = s.gains(s.pairing)
s.say([pairing.gain_sentence(gains, str(s.pairing))])

# %% [markdown]
# Task by task, paired item by item. A task that defines both metrics of lm-eval, `acc` and `acc_norm`,
# has a row for each, the one of published tables first. The suite's mean uses `acc`.

# %%
s.show(pairing.gain_table(gains))

# %% [markdown]
# ## What is still extracted
#
# Passages whose suffix greedy decoding reproduces exactly, before and after, with exact intervals.

# %%
found = {
    moment: s.frame(s.plan.extraction(s.pairing.student, measured), "extraction")
    for moment, measured in (("before", None), ("after", s.pairing))
    if s.plan.has_passages(s.pairing.student)
}
s.show(pairing.extraction(found))

# %% [markdown]
# ## The corpus
#
# Documents sampled from BOS alone, as they came: unreliable text that nobody said. A document is finished
# where the source ended it by itself.

# %%
corpus = s.frame(s.plan.read_corpus(s.pairing), "corpus")
size = f"{len(corpus):,} documents, {corpus.n_tokens.sum():,} tokens"
print(f"{size}, finished {corpus.finished.mean():.0%}")
s.show(corpus[["text"]].head(5))

# %% [markdown]
# ## Did the student learn the corpus?
#
# The loss should fall, or stay where the corpus is the student's own text. A loss that rises says that
# the learning rate is too high for this student: then the gain above says nothing about the text.

# %%
losses.loss_curve(s.frame(s.plan.self_train(s.pairing), "curve"))

# %% [markdown]
# ## What would have been predicted
#
# Proxies and diagnostics of this corpus for this student. A number alone predicts nothing: compare it
# with that of another source. *Measure proxies* and *Diagnose a pairing* say how to read each one.

# %%
asked = (s.pairing.source, s.pairing.student, s.pairing.temperature, s.pairing.seed)
proxies = s.frame(s.plan.proxies(*asked), "proxies")
diagnostics = s.frame(s.plan.diagnose(*asked), "diagnostics")
s.show(pairing.scores(proxies, diagnostics))

# %% [markdown]
# ## How the two are read
#
# The code takes shortcuts, such as several documents in one row. Each was compared with the plain way
# on the model itself when it was made or fetched; where a shortcut differs, the plain way is taken.

# %%
s.read_as(s.pairing.source, s.pairing.student)

# %% [markdown]
# ## How it is done
#
# The source writes a corpus, the student is trained on it, and the student is measured before and after.
# Each step is a stage with a page of its own, which prints its code. What is new here is the interval of
# the gain: items are drawn anew, document by document, many times, and the gain is computed on each draw.
# This code turns those draws into an interval.

# %%
s.method("analysis.bootstrap")

# %% [markdown]
# ## What it cost
#
# Seconds and memory of every stage, whenever its runs were computed.

# %%
s.show(pairing.cost([s.project.store.finished(run) for run in runs]))

# %% [markdown]
# ## Where this comes from

# %%
s.footer(*runs)

# %% [markdown]
# ## Try it
#
# - Another source for the same student: `nbutils notebook pairing -p source llama-large`. Which runs are
#   reused, and which are not?
# - An adapter: `nbutils notebook pairing -p method lora`. Does it gain less, and erase less?
# - Models of your own: `nbutils notebook pairing -p tier smol -p source folder:PATH -p student
#   smollm2-135m --dry-run` says what that will cost.
