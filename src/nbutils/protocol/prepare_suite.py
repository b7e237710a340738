"""The benchmark suite: items from held-out text of every domain, as lm-eval task files.

There are three kinds of item. All are scored by comparing the log-likelihoods of the choices:

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
    """Items with a word and its other number, each followed by the rest of the sentence."""
    return replacements(document, rng, tuple(FLIPS), lambda word: [FLIPS[word]], following=None)


def preposition(document: text.Document, rng: np.random.Generator) -> list[Item]:
    """Items with a preposition and three others, each followed by ``FOLLOWING_WORDS`` words."""

    def others(word: str) -> list[str]:
        pool = [p for p in PREPOSITIONS if p != word]
        return [str(p) for p in rng.choice(pool, 3, replace=False)]

    return replacements(document, rng, PREPOSITIONS, others, following=FOLLOWING_WORDS)


def replacements(
    document: text.Document,
    rng: np.random.Generator,
    candidates: tuple[str, ...],
    others: Callable[[str], list[str]],
    following: int | None,
) -> list[Item]:
    """Items whose choices replace a candidate word that has at least three words before it.

    Each choice is followed by ``following`` words of the sentence, or by all of them if None.
    """
    whole = document.text
    ends = np.cumsum([len(s) + 1 for s in document.sentences])
    matches = [
        match
        for match in re.finditer(rf"(?<= )({'|'.join(candidates)})(?= )", whole)
        if whole[: match.start()].count(" ") >= 3
    ]
    items = []
    for match in sampled(matches, rng):
        end = ends[np.searchsorted(ends, match.end())]
        tail = " " + " ".join(whole[match.end() : end].split()[:following])
        context = whole[: match.start()].rstrip()
        items.append(question(context, match.group(), others(match.group()), tail, rng))
    return items


def question(
    context: str, answer: str, others: list[str], tail: str, rng: np.random.Generator
) -> Item:
    """An item with its choices in random order; ``gold`` is the index of the answer."""
    words = [answer, *others]
    order = rng.permutation(len(words))
    return {
        "query": context,
        "choices": [f" {words[i]}{tail}" for i in order],
        "gold": int(np.argmin(order)),
    }


# --- Supporting code -------------------------------------------------------------------------


SPOTS = 3  # most items of one kind per document
NEIGHBOURS = 25  # ranks on either side from which distractors are drawn
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
# Written beside the task files, so that lm-eval's own command line finds the items anywhere.
ITEMS_MODULE = '''\
"""Load the items of a task from the JSON Lines file beside this module."""

from pathlib import Path

from datasets import Dataset


def _load(task):
    path = Path(__file__).parent / f"{task}.jsonl"
    return {"test": Dataset.from_json(str(path), keep_in_memory=True)}
'''


def cloze_maker(frequency: Counter[str]) -> Maker:
    """Maker of cloze items whose distractors are about as frequent as the answer."""
    ranked = [w for w, n in frequency.most_common() if n >= 5 and len(w) >= 4 and w.isalpha()]
    rank = {word: r for r, word in enumerate(ranked)}

    def make(document: text.Document, rng: np.random.Generator) -> list[Item]:
        whole = document.text
        present = set(text.words(whole))
        matches = [
            match
            for match in re.finditer(r"(?<= )[a-z]{4,}(?=[ ,.;:])", whole)
            if match.group() in rank and whole[: match.start()].count(" ") >= 8
        ]
        items = []
        for match in sampled(matches, rng):
            answer = match.group()
            low = max(0, rank[answer] - NEIGHBOURS)
            near = [w for w in ranked[low : rank[answer] + NEIGHBOURS] if w not in present]
            if len(near) >= 3:
                others = [str(w) for w in rng.choice(near, 3, replace=False)]
                items.append(question(whole[: match.start()].rstrip(), answer, others, "", rng))
        return items

    return make


def sampled(matches: list[re.Match[str]], rng: np.random.Generator) -> list[re.Match[str]]:
    """At most ``SPOTS`` of the matches, drawn without replacement."""
    return [matches[i] for i in rng.permutation(len(matches))[:SPOTS]]


def full_text(item: Item) -> str:
    """The text of an item with its right answer, as it stood in the document."""
    choices, gold = item["choices"], item["gold"]
    assert isinstance(choices, list)
    assert isinstance(gold, int)
    return f"{item['query']}{choices[gold]}"


def build(p: PrepareSuite) -> dict[str, list[Item]]:
    """The items of each task; at most ``SPOTS`` of each kind come from one document.

    An item names its document, because items of one document are not independent. A document is
    left out where any run of ``text.SHINGLE_WORDS`` words also occurs in the training split.

    Raises:
        TextError: A domain has too little held-out text for that many items.
    """
    trained = text.training_shingles(p.max_chars)
    tasks: dict[str, list[Item]] = {}
    for number, domain in enumerate(text.DOMAINS):
        rng = np.random.default_rng([p.size.seed, number])
        held_out = [d for d in text.documents(domain, p.max_chars) if d.split == "benchmark"]
        frequency = Counter(word for d in held_out for word in text.words(d.text))
        shuffled = [held_out[i] for i in rng.permutation(len(held_out))]
        clean = [d for d in shuffled if not text.leaks(d.text, trained)]
        makers = {
            "agreement": agreement,
            "preposition": preposition,
            "cloze": cloze_maker(frequency),
        }
        for kind, make in makers.items():
            number_wanted: int = getattr(p.size, kind)
            items = [
                {"document": f"{domain}-{n:04d}", **item}
                for n, document in enumerate(clean)
                for item in make(document, rng)
            ]
            if len(items) < number_wanted:
                raise text.TextError(
                    f"the held-out text of domain {domain!r} gives {len(items)} {kind} items, "
                    f"{number_wanted} are asked for: lower suite.{kind}"
                )
            tasks[f"{domain}_{kind}"] = [
                {"item": f"{domain}-{kind}-{n:04d}", **item}
                for n, item in enumerate(items[:number_wanted])
            ]
    return tasks


def run(p: PrepareSuite, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *prepare suite*: writes one lm-eval task file and one JSON Lines file per task."""
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
    """The full texts of the items of each task, from a prepared suite or prepared benchmarks."""
    of_benchmarks = folder / "texts.json"
    if of_benchmarks.is_file():
        return dict(json.loads(of_benchmarks.read_text("utf-8")))
    return {
        path.stem: [full_text(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }
