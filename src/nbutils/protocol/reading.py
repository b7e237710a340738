"""Sentences on how models read text: what begins with BOS, and which shortcuts are right."""

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
"""What happens instead where a shortcut is not right."""


def read_as(name: str, folder: Path) -> list[str]:
    """Sentences on a model of the store: what begins with BOS, and which shortcuts are right."""
    policy = json.loads((folder / "bos.json").read_text("utf-8"))
    parts = ("scoring", "contexts of benchmark items"), ("extraction", "prompts of passages")
    with_bos = [part for key, part in parts if policy[key]]
    without_bos = [part for key, part in parts if not policy[key]]
    sentence = f"{name}: documents begin with {policy['token']}"
    sentence += f"; so do {' and '.join(with_bos)}" if with_bos else ""
    sentence += f"; {' and '.join(without_bos)} do not" if without_bos else ""
    plain = plain_ways(name, folder)
    return [f"{sentence}.", plain or f"{name}: every shortcut gives what the plain way gives."]


def plain_ways(name: str, folder: Path) -> str:
    """A sentence on the shortcuts that are not right for a model of the store, or an empty text."""
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    wrong = {key: check for key, check in facts["shortcuts"].items() if not check["right"]}
    ways = [f"{_PLAIN[key]} ({_difference(check)})" for key, check in wrong.items()]
    if not ways:
        return ""
    tried = f"tried with transformers {facts['tried']['transformers']}, {facts['tried']['device']}"
    return f"{name} is read the plain way, which takes longer: {'; '.join(ways)}; {tried}."


def _difference(check: dict[str, Any]) -> str:
    """How far a shortcut's logits are from the plain pass, or why it could not be tried."""
    for which in ("copy", "model"):
        if check[which] is not None and check[which] > check[f"{which}_bound"]:
            difference = f"otherwise logits differ by {check[which]:.2g} of the largest"
            return f"{difference}, {check[f'{which}_bound']:.0e} is allowed"
    return f"the shortcut could not be tried: {check['why'] or 'logits are not finite'}"


def ways(runs: Iterable[Run], store: Store) -> list[str]:
    """Sentences on the models of some runs whose shortcuts are not right, or not yet tried."""
    models = {run.name: run for run in runs if run.stage in ("prepare_model", "fetch_model")}
    sentences, not_fetched = [], []
    for run in models.values():
        name = str(run.labels["model"])
        if store.finished(run) is not None:
            sentences.append(plain_ways(name, store.path(run)))
        elif run.stage == "fetch_model":
            not_fetched.append(name)
    if not_fetched:
        sentences.append(
            f"Not fetched yet: {', '.join(not_fetched)}. Which shortcuts are right is found out "
            "when they are; without one of them, a model takes longer than estimated here."
        )
    return [sentence for sentence in sentences if sentence]
