"""The items of the tasks beside this module."""

from pathlib import Path

from datasets import Dataset


def _load(task: str) -> dict[str, Dataset]:
    path = Path(__file__).parent / f"{task}.jsonl"
    return {"test": Dataset.from_json(str(path), keep_in_memory=True)}


def load_sea_agreement(**_: object) -> dict[str, Dataset]:
    return _load("sea_agreement")


def load_sea_cloze(**_: object) -> dict[str, Dataset]:
    return _load("sea_cloze")


def load_sea_preposition(**_: object) -> dict[str, Dataset]:
    return _load("sea_preposition")
