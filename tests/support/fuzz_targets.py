"""What is thrown at the parsers, and what may come of it: a value, or the one kind of error.

A target takes any bytes. It raises where a parser raised another error than ``UserError``, gave
something that it must not give, or told more than a person reads.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nbutils.config import yaml_text
from nbutils.config.tiers import Tier, load_tier
from nbutils.errors import UserError
from nbutils.results import archive as archives
from nbutils.results import contribute, layout
from nbutils.results.archive import Contents
from nbutils.results.project import Project
from nbutils.runs import failures, garbage
from nbutils.runs.store import MANIFEST
from nbutils.runs.types import SCHEMA, Manifest
from support.contributed import TIER, opened
from support.project import open_store
from support.tiny import REPOSITORY

Check = Callable[[bytes], None]
KEY = "0123456789abcdef"
MANIFEST_VALUES: dict[str, Any] = {
    "schema_version": SCHEMA,
    "key": KEY,
    "stage": "embed_texts",
    "name": "smoke: a corpus",
    "labels": {"source": "neox-small", "temperature": 1.0, "seed": 0, "rank": None},
    "parameters": {"texts": 3},
    "inputs": {"corpus": {"key": "f" * 16, "digest": "e" * 64}},
    "code_digest": "d" * 64,
    "git": {"commit": None, "dirty": False},
    "versions": {"python": "3.11"},
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "seed": None,
    "created": "2026-01-02T03:04:05+00:00",
    "wall_seconds": 1.5,
    "peak_memory_mib": 10.0,
    "outputs": {"embeddings.npy": "c" * 64},
}
LONGEST = 50_000  # characters of a message


def told(action: Callable[[], object]) -> object:
    """What an action gives, or its error where that is one that a person can mend."""
    try:
        return action()
    except UserError as caught:
        error = caught
    assert len(str(error)) < LONGEST, "no person reads such a message"
    return error


def tier(root: Path) -> Check:
    """A tier file of a project; what a command line gives as one value is read alike."""
    place = root / "notebooks" / "tiers" / "thrown.yml"
    place.parent.mkdir(parents=True, exist_ok=True)

    def check(data: bytes) -> None:
        place.write_bytes(data)
        assert isinstance(told(lambda: load_tier("thrown", root)), Tier | UserError)
        told(lambda: yaml_text.read(data.decode("utf-8", "replace"), "the value"))

    return check


def manifest(root: Path) -> Check:
    """The same bytes as manifest of the store, as a line of a published tier, and as a failure."""
    folder, published = open_store(root).folder("embed_texts", KEY), root / "published"
    failed = failures.path(open_store(root), KEY)
    for place in (folder, published, failed.parent):
        place.mkdir(parents=True, exist_ok=True)

    def check(data: bytes) -> None:
        (folder / MANIFEST).write_bytes(data)
        store = open_store(root)
        found = told(lambda: store.manifest("embed_texts", KEY))
        if isinstance(found, Manifest):
            assert (found.stage, found.key) == ("embed_texts", KEY)
            assert store.folder(found.stage, found.key) == folder
        told(lambda: list(garbage.damage(store, store.all())))
        (published / layout.MANIFESTS).write_bytes(data)
        told(lambda: layout.read_manifests(published))
        failed.write_bytes(data)
        told(lambda: failures.read(store, KEY))

    return check


def archive(root: Path) -> Check:
    """An archive for a project: any bytes, or after a first byte of 0 any text, compressed."""
    place = root / "thrown.json.gz"

    def check(data: bytes) -> None:
        place.write_bytes(gzip.compress(data[1:]) if data[:1] == b"\0" else data)
        given = told(lambda: archives.read(place))
        if isinstance(given, Contents):
            folder = root / layout.PUBLISHED / TIER
            told(lambda: contribute.merged(given, folder, Project(root)))

    return check


def seeds(name: str, given: Path) -> list[bytes]:
    """Valid inputs of a target, to begin with; the archive is one of a contribution."""
    if name == "tier":
        tiers = (REPOSITORY / "notebooks" / "tiers").glob("*.yml")
        return [path.read_bytes() for path in sorted(tiers)]
    if name == "manifest":
        manifests = opened(given)["manifests"]
        return [json.dumps(values).encode() for values in (MANIFEST_VALUES, *manifests)]
    return [given.read_bytes(), b"\0" + gzip.decompress(given.read_bytes())]


# ---------------------------------------------------------------- mutations, for hypothesis

EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["../x", "\x1b[31m", "\u202e", "\u2028", 10**400, -1, 2**31, "neox-small"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3)
    ),
    max_leaves=6,
)


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes with some replaced, dropped or added at places between begin (0) and end (1)."""
    for where, dropped, new in edits:
        at = int(where * len(data))
        data = data[:at] + new + data[at + dropped :]
    return data


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a document."""
    if not isinstance(value, dict | list):
        return [here]
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    return [here, *(place for name, part in inside for place in places(part, (*here, name)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The same document with another part at one place."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy
