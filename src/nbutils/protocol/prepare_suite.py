"""The benchmark suite: items cut from held-out text of every domain, as lm-eval task files.

Three kinds of item, all scored by comparing the log-likelihood of the choices:

=========== ====== ================================================================
kind        chance question
=========== ====== ================================================================
cloze       1/4    which content word comes next; distractors of matched frequency
agreement   1/2    which number fits: *is* or *are*, *hath* or *have*, *this* or *these*
preposition 1/4    which preposition fits before the words that follow
=========== ====== ================================================================
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nbutils.config.schema import PrepareSuite
from nbutils.protocol import text
from nbutils.runs.types import Progress

Item = dict[str, object]
Maker = Callable[[text.Document, np.random.Generator], list[Item]]


def agreement(document: text.Document, rng: np.random.Generator) -> list[Item]:
    """A word against its other number, each followed by the rest of the sentence."""
    return flipped(document, rng, tuple(FLIPS), lambda word: [FLIPS[word]], following=None)


def preposition(document: text.Document, rng: np.random.Generator) -> list[Item]:
    """A preposition against three others, each followed by the next few words."""

    def others(word: str) -> list[str]:
        pool = [p for p in PREPOSITIONS if p != word]
        return [str(p) for p in rng.choice(pool, 3, replace=False)]

    return flipped(document, rng, PREPOSITIONS, others, following=FOLLOWING_WORDS)


def flipped(
    document: text.Document,
    rng: np.random.Generator,
    candidates: tuple[str, ...],
    others: Callable[[str], list[str]],
    following: int | None,
) -> list[Item]:
    """Replace a candidate word; keep ``following`` words of its sentence after it."""
    whole = document.text
    ends = np.cumsum([len(s) + 1 for s in document.sentences])
    found = [
        spot
        for spot in re.finditer(rf"(?<= )({'|'.join(candidates)})(?= )", whole)
        if whole[: spot.start()].count(" ") >= 3
    ]
    items = []
    for spot in some(found, rng):
        end = ends[np.searchsorted(ends, spot.end())]
        tail = " " + " ".join(whole[spot.end() : end].split()[:following])
        context = whole[: spot.start()].rstrip()
        items.append(question(context, spot.group(), others(spot.group()), tail, rng))
    return items


def question(
    context: str, answer: str, others: list[str], tail: str, rng: np.random.Generator
) -> Item:
    """An item with its choices in random order; ``gold`` is the place of the answer."""
    choices = [answer, *others]
    places = rng.permutation(len(choices))
    return {
        "query": context,
        "choices": [f" {choices[i]}{tail}" for i in places],
        "gold": int(np.argmin(places)),
    }


# --- Supporting code -------------------------------------------------------------------------


SPOTS = 3  # items of one kind in one document, at most
NEIGHBOURS = 25
FOLLOWING_WORDS = 3
FLIPS = {
    **{"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has"},
    **{"hath": "have", "doth": "do", "this": "these", "these": "this", "those": "that"},
}
PREPOSITIONS = ("of", "in", "to", "for", "by", "with", "from", "on", "at", "upon", "into", "unto")
TASK_FILE = """\
task: {task}
custom_dataset: !function items.load_{task}
test_split: test
output_type: multiple_choice
doc_to_text: query
doc_to_choice: choices
doc_to_target: gold
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""
# Stands beside the task files, so that lm-eval's own command line reads them from anywhere.
ITEMS_MODULE = '''\
"""Load the items of a task from the JSON Lines file beside this module."""

from pathlib import Path

from datasets import Dataset


def _load(task):
    path = Path(__file__).parent / f"{task}.jsonl"
    return {"test": Dataset.from_json(str(path), keep_in_memory=True)}
'''


def cloze_maker(frequency: Counter[str]) -> Maker:
    """Cloze items whose distractors stand next to the answer in the list of words by frequency."""
    ranked = [w for w, n in frequency.most_common() if n >= 5 and len(w) >= 4 and w.isalpha()]
    rank = {word: r for r, word in enumerate(ranked)}

    def make(document: text.Document, rng: np.random.Generator) -> list[Item]:
        whole = document.text
        present = set(text.words(whole))
        found = [
            spot
            for spot in re.finditer(r"(?<= )[a-z]{4,}(?=[ ,.;:])", whole)
            if spot.group() in rank and whole[: spot.start()].count(" ") >= 8
        ]
        items = []
        for spot in some(found, rng):
            answer = spot.group()
            low = max(0, rank[answer] - NEIGHBOURS)
            near = [w for w in ranked[low : rank[answer] + NEIGHBOURS] if w not in present]
            if len(near) >= 3:
                others = [str(w) for w in rng.choice(near, 3, replace=False)]
                items.append(question(whole[: spot.start()].rstrip(), answer, others, "", rng))
        return items

    return make


def some(spots: list[re.Match[str]], rng: np.random.Generator) -> list[re.Match[str]]:
    """At most ``SPOTS`` of the places, drawn without replacement."""
    return [spots[i] for i in rng.permutation(len(spots))[:SPOTS]]


def full_text(item: Item) -> str:
    """The text of an item with its right answer, as it stood in the document."""
    choices, gold = item["choices"], item["gold"]
    assert isinstance(choices, list)
    assert isinstance(gold, int)
    return f"{item['query']}{choices[gold]}"


def build(p: PrepareSuite) -> dict[str, list[Item]]:
    """Task name to items. A document gives at most ``SPOTS`` items of each kind.

    An item names the document that it is cut from: items of one document are no independent
    draws. A document of which any run of words occurs in a training split is left out.

    Raises:
        TextError: A domain has too little held-out text for the items asked for.
    """
    trained = text.training_shingles(p.max_chars)
    tasks: dict[str, list[Item]] = {}
    for number, domain in enumerate(text.DOMAINS):
        rng = np.random.default_rng([p.size.seed, number])
        held = [d for d in text.documents(domain, p.max_chars) if d.split == "benchmark"]
        frequency = Counter(w for d in held for w in text.words(d.text))
        clean = [held[i] for i in rng.permutation(len(held))]
        clean = [d for d in clean if not text.leaks(d.text, trained)]
        makers = {
            "agreement": agreement,
            "preposition": preposition,
            "cloze": cloze_maker(frequency),
        }
        for kind, make in makers.items():
            wanted: int = getattr(p.size, kind)
            items = [
                {"document": f"{domain}-{n:04d}", **item}
                for n, document in enumerate(clean)
                for item in make(document, rng)
            ]
            if len(items) < wanted:
                raise text.TextError(
                    f"the held-out text of domain {domain!r} gives {len(items)} {kind} items, "
                    f"{wanted} are asked for: lower suite.{kind}"
                )
            tasks[f"{domain}_{kind}"] = [
                {"item": f"{domain}-{kind}-{n:04d}", **item}
                for n, item in enumerate(items[:wanted])
            ]
    return tasks


def run(p: PrepareSuite, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *prepare suite*: one lm-eval task file and one JSON Lines file a task."""
    tasks = build(p)
    module = ITEMS_MODULE
    for done, (task, items) in enumerate(tasks.items(), start=1):
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (out / f"{task}.jsonl").write_text(lines, "utf-8")
        (out / f"{task}.yaml").write_text(TASK_FILE.format(task=task), "utf-8")
        module += f'\n\ndef load_{task}(**_):\n    return _load("{task}")\n'
        progress(done / len(tasks))
    (out / "items.py").write_text(module, "utf-8")


def texts(folder: Path) -> dict[str, list[str]]:
    """Task to the full texts of its items, from a prepared suite or prepared benchmarks."""
    ready = folder / "texts.json"
    if ready.is_file():
        return dict(json.loads(ready.read_text("utf-8")))
    return {
        path.stem: [full_text(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }
