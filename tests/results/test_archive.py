"""Archives of strangers: what is wrong with a file, and whatever else may come."""

import io
import re
import shutil
import stat
import warnings
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.book import publish
from nbutils.errors import UserError
from nbutils.results import tables
from nbutils.results.archive import FILES, LIMIT, zipped
from nbutils.results.project import Project
from nbutils.results.tables import MANIFESTS
from nbutils.runs.types import Manifest
from support.contributed import TIER, content, files, place, refused, resummed
from support.fuzz_targets import EDITS, edited

pytestmark = pytest.mark.usefixtures("stages")


# --- What is not accepted: the file ---------------------------------------------------------


def entry(archive: Path, name: str, data: bytes = b"x", kind: int = stat.S_IFREG) -> bytes:
    """The archive with one more entry."""
    buffer = io.BytesIO(archive.read_bytes())
    with zipfile.ZipFile(buffer, "a") as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = kind << 16
        opened.writestr(info, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["../states.csv", "/etc/passwd", "runs/states.csv", "states.parquet", "C:\\states.csv"]
)
def test_a_name_that_is_not_expected(name: str, theirs: Path, ours: Path) -> None:
    refused(ours, entry(theirs, name), f"each once; missing: none; not allowed: .*{name[-6:]}")


def test_a_name_that_comes_twice(theirs: Path, ours: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = entry(theirs, "states.csv")
    refused(ours, data, r"not allowed: .'states.csv'\]")


def test_a_link(theirs: Path, ours: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in files(theirs).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if name == "states.csv" else 0) << 16
            opened.writestr(info, b"/etc/passwd" if name == "states.csv" else data)
    refused(ours, buffer.getvalue(), "states.csv is a link")


def test_a_bomb(theirs: Path, ours: Path) -> None:
    bomb = resummed(files(theirs) | {"states.csv": bytes(2 * LIMIT)})
    assert len(bomb) < LIMIT / 100
    refused(ours, bomb, "it unpacks to 32 MiB; allowed are 16 MiB")


def test_a_bomb_that_lies_about_its_size(theirs: Path, ours: Path) -> None:
    size = 2 * LIMIT
    bomb = resummed(files(theirs) | {"states.csv": bytes(size)})
    said = bomb.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    refused(ours, said, "no whole zip archive")


def test_a_method_that_may_take_any_memory(theirs: Path, ours: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as opened:
        for name, data in files(theirs).items():
            opened.writestr(name, data)
    refused(ours, buffer.getvalue(), "it is packed by method 14; allowed are 0 and 8")


def test_one_name_very_often(theirs: Path, ours: Path) -> None:
    """Counted once for all, or it would take minutes."""
    buffer = io.BytesIO(theirs.read_bytes())
    with zipfile.ZipFile(buffer, "a") as opened, warnings.catch_warnings(action="ignore"):
        for _ in range(20_000):
            opened.writestr(zipfile.ZipInfo("states.csv"), b"")
    refused(ours, buffer.getvalue(), r"each once; missing: none; not allowed: .'states.csv'.$")


def test_a_table_of_very_many_columns(theirs: Path, ours: Path) -> None:
    """pandas would take gigabytes for them."""
    changed = files(theirs) | {"states.csv": 2**20 * b"," + b"\n"}
    refused(ours, resummed(changed), "table states: its first line is longer than 4096 bytes")


def test_a_manifest_that_python_would_read_as_two_lines(theirs: Path, ours: Path) -> None:
    """What names the device is free text; JSON leaves a separator of lines in it as it is."""
    changed = files(theirs)
    old, new = b'"device":"', '"device":"\u2028'.encode()
    assert old in changed[MANIFESTS]
    path = ours / "given.zip"
    path.write_bytes(resummed(changed | {MANIFESTS: changed[MANIFESTS].replace(old, new)}))
    assert publish.accept(path, Project(ours))[1]
    assert publish.verify(TIER, ours)
    shutil.rmtree(ours / tables.LOCAL)
    assert len(tables.manifests(ours)) == len(tables.read_manifests(place(ours)))


def test_a_file_that_is_too_large(ours: Path) -> None:
    refused(ours, bytes(LIMIT + 1), "is larger than the 16 MiB")


def test_a_file_that_is_no_archive(theirs: Path, ours: Path) -> None:
    refused(ours, b"", "no whole zip archive")
    refused(ours, b"states", "no whole zip archive")
    refused(ours, theirs.read_bytes()[:-100], "no whole zip archive")


def test_a_changed_byte(theirs: Path, ours: Path) -> None:
    changed = files(theirs)
    changed["utility.csv"] = changed["utility.csv"].replace(b"True", b"False", 1)
    refused(ours, zipped(changed), "utility.csv differs from its digest in SHA256SUMS")


def test_a_missing_table(theirs: Path, ours: Path) -> None:
    less = files(theirs)
    del less["curves.csv"]
    refused(ours, resummed(less), "missing: curves.csv; not allowed: ")


Change = tuple[str, str, str, str]
# file, what is replaced there, by what, and what is said
CHANGES: list[Change] = [
    ("states.csv", "extraction_run", "extraction", "table states has the columns state, extracti"),
    ("utility.csv", "chance", "chances", "table utility has the columns"),
    ("utility.csv", "_norm\n", "_more\n", "table utility has the columns"),
    ("utility.csv", "True", "maybe", "table utility cannot be read"),
    ("utility.csv", "0.25", "", "column 'chance' must hold numbers"),
    ("utility.csv", "0.25", "inf", "column 'chance' must hold numbers"),
    ("utility.csv", "0.25", "0.250", "not written as `nbutils contribute`"),
    ("utility.csv", "cloze-3,", "cloze-4,", "same items and passages, each once"),
    ("utility.csv", "cloze-3,", "<b>,", "column 'item' must hold text"),
    ("utility.csv", "cloze-3,", "\x1b[31m,", "column 'item' must hold text"),
    ("utility.csv", "cloze-3,", "\u202e3-ezolc,", "column 'item' must hold text"),
    ("extraction.csv", ",1,held_out", ",2,held_out", "same items and passages, each once"),
    ("states.csv", "cross-family", "self", "table states: relation of run .* 'cross-family'"),
    ("curves.csv", "llama-small", "neox-small", "table curves: source of run"),
    ("corpora.csv", ",1.0,1,", ",0.7,1,", "table corpora: temperature of run"),
    ("proxies.csv", "cross-family", "lineage", "table proxies: relation of run"),
    ("models.csv", "llama-small", "qwen-small", "table models: model of run"),
    (
        "tables.version",
        "\n",
        "0\n",
        "tables are of version '10', and this",
    ),
    ("manifests.jsonl", '"schema_version":2', '"schema_version":3', "has schema version 3"),
    ("manifests.jsonl", '"threads":1', '"threads":1,"new":1', "schema version 2: new: Extra"),
    ("manifests.jsonl", '"wall_seconds":', '"wall_seconds":NaN,"w":', "is no manifest of schema"),
    ("manifests.jsonl", '"seed":1', '"seed":2', "key '.*' does not follow"),
    ("manifests.jsonl", '"key":"', '"key":"0', "key '0.*' does not follow"),
    ("manifests.jsonl", "small: ", "lab7: ", "unknown tier 'lab7'"),
    ("manifests.jsonl", "small: ", "../../x: ", "unknown tier '../../x'"),
    ("manifests.jsonl", '"pairings"', '"controls"', "belongs to controls; only pairings"),
    ("manifests.jsonl", '1.0,"seed":1,"round"', '9.0,"seed":1,"round"', "'temperature' is 9.0"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), CHANGES)
def test_a_wrong_value(
    file: str, old: str, new: str, message: str, theirs: Path, ours: Path
) -> None:
    changed = files(theirs)
    assert old.encode() in changed[file]
    changed[file] = changed[file].replace(old.encode(), new.encode())
    refused(ours, resummed(changed), re.escape(message) if "*" not in message else message)


@pytest.mark.parametrize("lost", ["one answer", "all answers", "one state's"])
def test_acc_norm_that_not_all_states_have_alike(lost: str, theirs: Path, ours: Path) -> None:
    table = pd.read_csv(
        io.BytesIO(files(theirs)["utility.csv"]), dtype="str", keep_default_na=False
    )
    first, second = (column for column in map(str, table) if column.endswith("_norm"))
    if lost == "one answer":
        table.loc[len(table) - 1, first] = ""
    elif lost == "all answers":
        table[[first, second]] = ""
    else:
        table = table.drop(columns=first)
    changed = files(theirs) | {"utility.csv": table.to_csv(index=False).encode()}
    refused(ours, resummed(changed), "did not answer the same items and passages, each once")


def manifests(archive: Path) -> list[Manifest]:
    return [Manifest.model_validate_json(x) for x in files(archive)["manifests.jsonl"].splitlines()]


@pytest.mark.parametrize("stage", ["self_train", "sample_corpus", "prepare_suite", "diagnose"])
def test_a_missing_manifest(stage: str, theirs: Path, ours: Path) -> None:
    left = [m for m in manifests(theirs) if m.stage != stage]
    lines = "".join(m.model_dump_json() + "\n" for m in left).encode()
    refused(
        ours,
        resummed(files(theirs) | {"manifests.jsonl": lines}),
        "lacks runs|holds 0 fine-tunes|no manifest of|does not need",
    )


def test_a_forged_digest_of_an_input(theirs: Path, ours: Path) -> None:
    """Its own key is made to fit; what reads it still names the digest that it had."""
    changed = files(theirs)
    suite = next(m for m in manifests(theirs) if m.stage == "prepare_suite")
    forged = suite.model_copy(update={"outputs": {"texts.json": "0" * 64}})
    changed["manifests.jsonl"] = changed["manifests.jsonl"].replace(
        suite.model_dump_json().encode(), forged.model_dump_json().encode()
    )
    refused(ours, resummed(changed), r"lacks runs that tier 'small' needs: .*input suite")


def test_rows_of_a_run_that_is_not_there(theirs: Path, ours: Path) -> None:
    changed = files(theirs)
    head, first, *rest = changed["proxies.csv"].splitlines(keepends=True)
    changed["proxies.csv"] = b"".join([head, first, *rest, b"0" * 16 + first[16:]])
    refused(ours, resummed(changed), "table proxies: .* rows of no such run: 0000000000000000")


# --- Whatever else may come -------------------------------------------------------------------


def harmless(root: Path, before: dict[str, bytes], data: bytes) -> None:
    """A user's error and nothing else comes out, or a tier that verifies."""
    path = root / "given.zip"
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


@settings(max_examples=60, deadline=None)
@given(EDITS)
def test_mutated_archives(
    theirs: Path, target: tuple[Path, dict[str, bytes]], edits: list[tuple[float, int, bytes]]
) -> None:
    harmless(*target, edited(theirs.read_bytes(), edits))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES), EDITS)
def test_mutated_files_with_digests_that_fit(
    theirs: Path,
    target: tuple[Path, dict[str, bytes]],
    file: str,
    edits: list[tuple[float, int, bytes]],
) -> None:
    changed = files(theirs)
    changed[file] = edited(changed[file], edits)
    harmless(*target, resummed(changed))
