"""Archives of strangers: what is wrong with a file, and whatever else may come."""

import copy
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.book import publish
from nbutils.errors import UserError
from nbutils.results import archive, layout, tables
from nbutils.results.archive import LIMIT
from nbutils.results.project import Project
from support.contributed import TIER, Json, closed, content, of_stage, opened, place, refused
from support.fuzz_targets import EDITS, VALUES, edited, places, replaced

pytestmark = pytest.mark.usefixtures("stages")


# --- What is not accepted: the file ---------------------------------------------------------


def test_a_bomb(ours: Path) -> None:
    bomb = gzip.compress(bytes(2 * LIMIT))
    assert len(bomb) < LIMIT / 100
    refused(ours, bomb, "it decompresses to more than 16 MiB")


def test_a_file_that_is_no_archive(theirs: Path, ours: Path) -> None:
    whole = theirs.read_bytes()
    for data in (b"states", whole[:-100], b"PK" + whole, whole + b"x"):
        refused(ours, data, "cannot be read as a whole archive")
    refused(ours, b"", "is not an archive of a pairing")
    refused(ours, closed("[" * 100_000), "is not an archive of a pairing")


def test_a_changed_byte(theirs: Path, ours: Path) -> None:
    changed = bytearray(theirs.read_bytes())
    changed[len(changed) // 2] ^= 1
    refused(ours, bytes(changed), "cannot be read|is not an archive of a pairing")


def test_a_manifest_that_python_would_read_as_two_lines(theirs: Path, ours: Path) -> None:
    """What names the device is free text; JSON leaves a separator of lines in it as it is."""
    changed = opened(theirs)
    changed["manifests"][0]["device"] = "\u2028cpu"
    path = ours / "given.json.gz"
    path.write_bytes(closed(changed))
    assert publish.accept(path, Project(ours))[1]
    assert publish.verify(TIER, ours)
    shutil.rmtree(ours / layout.LOCAL)
    assert len(tables.manifests(ours)) == len(layout.read_manifests(place(ours)))


def test_what_is_written_is_what_was_read(theirs: Path) -> None:
    assert archive.read(theirs).data() == theirs.read_bytes()


# --- What is not accepted: a value ----------------------------------------------------------


def put(stage: str, column: str, value: Any, run: int = 0) -> Callable[[Json], None]:
    """Put another value into the last row of a column, or in place of a single value."""

    def change(contents: Json) -> None:
        values = of_stage(contents, stage)[run]
        if isinstance(values[column], list):
            values[column][-1] = value
        else:
            values[column] = value

    return change


def replace(old: str, new: str) -> Callable[[Json], None]:
    """Replace a text in every manifest."""

    def change(contents: Json) -> None:
        text = json.dumps(contents["manifests"], ensure_ascii=False)
        assert old in text
        contents["manifests"] = json.loads(text.replace(old, new))

    return change


def drop(stage: str) -> Callable[[Json], None]:
    """Leave out the manifests of a stage, and what its runs measured."""

    def change(contents: Json) -> None:
        left = [m for m in contents["manifests"] if m["stage"] != stage]
        contents["manifests"] = left
        keys = {m["key"] for m in left}
        contents["measured"] = {k: v for k, v in contents["measured"].items() if k in keys}

    return change


def rename(column: str, new: str) -> Callable[[Json], None]:
    """Give a column of the answers another name."""

    def change(contents: Json) -> None:
        values = of_stage(contents, "measure_utility")[0]
        values[new] = values.pop(column)

    return change


def forget(run: Json) -> None:
    """Leave out what one run measured."""
    run["measured"].popitem()


def add_rows(contents: Json) -> None:
    """Add rows of a run that has no manifest."""
    contents["measured"]["0" * 16] = {"value": [1.0]}


def shorten(contents: Json) -> None:
    """Leave out the last value of one column."""
    of_stage(contents, "measure_proxies")[0]["value"].pop()


def forge_digest(contents: Json) -> None:
    """Change an output's digest; the runs that read it name the digest that it had."""
    suite = next(m for m in contents["manifests"] if m["stage"] == "prepare_suite")
    suite["outputs"] = {"texts.json": "0" * 64}


def without_norm(count: int, answers: int) -> Callable[[Json], None]:
    """Leave out the first answers by acc_norm of the first states."""

    def change(contents: Json) -> None:
        for values in of_stage(contents, "measure_utility")[:count]:
            values["correct_norm"][:answers] = [None] * answers

    return change


ALIKE = "its states did not answer the same items, each once"
UTILITY = "measure_utility"
CHANGES: list[tuple[Callable[[Json], None], str]] = [
    (rename("chance", "chances"), "measure_utility \\w+: chance: Field required"),
    (put(UTILITY, "correct", "maybe"), "correct.59: Input should be a valid boolean"),
    (put(UTILITY, "correct", 1), "correct.59: Input should be a valid boolean"),
    (put(UTILITY, "correct", None), "correct.59: Input should be a valid boolean"),
    (put(UTILITY, "chance", None), "chance.59: Input should be a valid number"),
    (put(UTILITY, "chance", 10**400), "chance.59: Input should be a|is not an archive"),
    (put(UTILITY, "item", "<b>"), "item.59: String should match pattern"),
    (put(UTILITY, "item", "\x1b[31m"), "item.59: it has characters that cannot be seen"),
    (put(UTILITY, "item", "\u202eezolc"), "item.59: it has characters that cannot be seen"),
    (put(UTILITY, "item", "x" * 201), "item.59: String should match pattern"),
    (put(UTILITY, "item", "cloze-99"), ALIKE),
    (put(UTILITY, "item", "agreement-0"), ALIKE),
    (put(UTILITY, "task", "suite"), ALIKE),
    (put("measure_extraction", "passage", 0), ALIKE),
    (put("measure_extraction", "split", "dev"), ALIKE),
    (put("measure_extraction", "passage", 10**30), "passage.11: Input should be less than"),
    (put("measure_extraction", "passage", 1.5), "passage.11: Input should be a valid integer"),
    (put("sample_corpus", "finished", "NaN"), "finished: Input should be a valid number"),
    (put("sample_corpus", "tokens", -1), "tokens: Input should be greater than"),
    (put("prepare_model", "architecture", "a&b"), "architecture: String should match pattern"),
    (shorten, "its columns must have the same length"),
    (forget, "rows without a manifest, or a manifest without rows: "),
    (add_rows, "rows without a manifest, or a manifest without rows: 0000000000000000"),
    (lambda c: c.update(version=10), "its rows are of version 10, those of this checkout of"),
    (lambda c: c.update(more=1), "more: Extra inputs are not permitted"),
    (lambda c: c.pop("pairing"), "pairing: Field required"),
    (lambda c: c["pairing"].update(tier="lab7"), "unknown tier 'lab7'"),
    (lambda c: c["pairing"].update(tier="../../x"), "tier: |unknown tier '../../x'"),
    (lambda c: c["pairing"].update(temperature=9.0), "pairing.temperature: Input should be less"),
    (lambda c: c["pairing"].update(source="neox-small"), "it lacks runs that tier 'small' needs"),
    (lambda c: c["pairing"].update(seed=2), "it lacks runs that tier 'small' needs"),
    (lambda c: c["pairing"].update(steps=9), "out tokens, steps and tasks"),
    (replace('"schema_version": 2', '"schema_version": 3'), "schema version 3, does not follow"),
    (replace('"threads": 1', '"threads": 1, "new": 1'), "new: Extra inputs are not permitted"),
    (replace('"seed": 1}', '"seed": 2}'), "does not follow from parameters"),
    (replace('"key": "', '"key": "0'), "does not follow from parameters|rows without"),
    (replace("small: ", "large: "), "runs that this pairing does not need, or not so named"),
    (replace('"pairings"', '"controls"'), "runs that this pairing does not need, or not so named"),
    (replace('"cross-family"', '"self"'), "runs that this pairing does not need, or not so named"),
    (forge_digest, "it lacks runs that tier 'small' needs: .*input suite"),
    *(
        (drop(stage), "it lacks runs that tier 'small' needs|does not need")
        for stage in ("self_train", "sample_corpus", "prepare_suite", "measure_extraction")
    ),
    (without_norm(1, 1), ALIKE),
    (without_norm(1, 30), ALIKE),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_wrong_value(
    change: Callable[[Json], None], message: str, theirs: Path, ours: Path
) -> None:
    changed = opened(theirs)
    change(changed)
    assert json.dumps(changed) != json.dumps(opened(theirs))  # where 1 is not true
    refused(ours, closed(changed), message)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "9" * 5000])
@pytest.mark.parametrize("place", ['"wall_seconds": ', '"chance": [', '"mean_log_prob": '])
def test_a_number_that_is_none(place: str, text: str, theirs: Path, ours: Path) -> None:
    """JSON has no such numbers, and yet readers take some of them."""
    whole = json.dumps(opened(theirs))
    assert place in whole
    changed = re.sub(re.escape(place) + r"-?[\d.e-]+", place + text, whole, count=1)
    refused(ours, closed(changed), "is not an archive of a pairing")


# --- Whatever else may come -------------------------------------------------------------------


def harmless(root: Path, before: dict[str, bytes], data: bytes) -> None:
    """A user's error and nothing else comes out, or a tier that verifies."""
    path = root / "given.json.gz"
    path.write_bytes(data)
    try:
        publish.accept(path, Project(root))
    except UserError:
        assert content(root) == before
    else:
        assert publish.verify(TIER, root)
        shutil.rmtree(root / "book")
        for name, data in before.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)


@pytest.fixture(scope="module")
def target(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A copy of the project with the published tier, and what is published there."""
    root = tmp_path_factory.mktemp("target") / "project"
    shutil.copytree(published, root)
    return root, content(root)


Target = tuple[Path, dict[str, bytes]]
Edits = list[tuple[float, int, bytes]]


@settings(max_examples=60, deadline=None)
@given(EDITS)
def test_mutated_archives(theirs: Path, target: Target, edits: Edits) -> None:
    harmless(*target, edited(theirs.read_bytes(), edits))


@settings(max_examples=60, deadline=None)
@given(EDITS)
def test_mutated_contents(theirs: Path, target: Target, edits: Edits) -> None:
    harmless(*target, gzip.compress(edited(gzip.decompress(theirs.read_bytes()), edits)))


@settings(max_examples=100, deadline=None)
@given(st.data(), VALUES)
def test_contents_with_another_value(
    theirs: Path, target: Target, data: st.DataObject, new: Any
) -> None:
    contents = opened(theirs)
    where = data.draw(st.sampled_from(places(contents)))
    harmless(*target, closed(replaced(copy.deepcopy(contents), where, new)))
