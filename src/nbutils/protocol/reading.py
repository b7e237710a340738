"""How models are read, in sentences: what begins with BOS, which shortcuts are right."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbutils.runs.store import Store
from nbutils.runs.types import Run

_PLAIN = {
    "packed": "one document per row in training",
    "tree": "one request at a time in scoring",
    "memory": "every token read again for each one sampled",
    "shrunk": "finished documents stay in the batch",
}
"""What the plain way means where a shortcut is not right."""


def read_as(name: str, folder: Path) -> list[str]:
    """Sentences on how a model of the store is read: what begins with BOS, and which shortcuts."""
    policy = json.loads((folder / "bos.json").read_text("utf-8"))
    parts = ("scoring", "contexts of benchmark items"), ("extraction", "prompts of passages")
    begin = [what for key, what in parts if policy[key]]
    bare = [what for key, what in parts if not policy[key]]
    told = f"{name}: documents begin with {policy['token']}"
    told += f"; so do {' and '.join(begin)}" if begin else ""
    told += f"; {' and '.join(bare)} do not" if bare else ""
    plain = plain_ways(name, folder)
    return [f"{told}.", plain or f"{name}: every shortcut gives what the plain way gives."]


def plain_ways(name: str, folder: Path) -> str:
    """A sentence on where a model of the store is read the plain way; empty where it never is."""
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    wrong = {key: check for key, check in facts["shortcuts"].items() if not check["right"]}
    ways = [f"{_PLAIN[key]} ({_apart(check)})" for key, check in wrong.items()]
    if not ways:
        return ""
    tried = f"tried with transformers {facts['tried']['transformers']}, {facts['tried']['device']}"
    return f"{name} is read the plain way, which takes longer: {'; '.join(ways)}; {tried}."


def _apart(check: dict[str, Any]) -> str:
    """How far a shortcut is from the plain way, or why that could not be measured."""
    for which in ("copy", "model"):
        if check[which] is not None and check[which] > check[f"{which}_bound"]:
            differ = f"else logits differ by {check[which]:.2g} of the largest"
            return f"{differ}, {check[f'{which}_bound']:.0e} is allowed"
    return f"the shortcut could not be tried: {check['why'] or 'logits are not finite'}"


def ways(runs: Iterable[Run], store: Store) -> list[str]:
    """Sentences on the models behind some runs that are read the plain way, or may be."""
    models = {run.name: run for run in runs if run.stage in ("prepare_model", "fetch_model")}
    found, unknown = [], []
    for run in models.values():
        name = str(run.labels["model"])
        if store.finished(run) is not None:
            found.append(plain_ways(name, store.path(run)))
        elif run.stage == "fetch_model":
            unknown.append(name)
    if unknown:
        found.append(
            f"Not fetched yet: {', '.join(unknown)}. Which shortcuts are right is found out then; "
            "without one of them a model takes longer than told here."
        )
    return [sentence for sentence in found if sentence]
