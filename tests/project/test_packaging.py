"""What is installed, by whichever way: package, locks, conda's environment and Binder's agree."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from support.guide import section, table
from support.tiny import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
READERS, DEVELOPERS = "requirements.lock", "requirements-dev.lock"
LINES = {n: (REPOSITORY / n).read_text("utf-8").splitlines() for n in (READERS, DEVELOPERS)}
LOCKED = {name: dict(line.split("==") for line in lines) for name, lines in LINES.items()}
EVERY = LOCKED[READERS] | LOCKED[DEVELOPERS]
EXTRAS = PROJECT["project"]["optional-dependencies"]  # of fuzz nothing is locked
READ = [Requirement(d) for d in PROJECT["project"]["dependencies"] + EXTRAS["encoder"]]
DIRECT = READ + [Requirement(d) for d in EXTRAS["test"]]


@pytest.mark.parametrize("name", LINES)
def test_a_lock_names_each_package_once_by_version_alone(name: str) -> None:
    lines, locked = LINES[name], LOCKED[name]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line) for line in lines)
    assert list(locked) == sorted(locked)
    assert len(locked) == len(lines)


def test_no_package_is_in_both_locks() -> None:
    """The developers' lock is what it adds, so the two cannot disagree."""
    assert LOCKED[READERS].keys() & LOCKED[DEVELOPERS].keys() == set()


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_the_locks_satisfy_what_the_package_asks_for(wanted: Requirement) -> None:
    assert wanted.specifier.contains(EVERY[canonicalize_name(wanted.name)])


def needed(direct: list[Requirement]) -> Iterator[Requirement]:
    """Every requirement here, followed from the direct ones to the last."""
    waiting, seen = list(direct), set()
    while waiting:
        wanted = waiting.pop()
        asked = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if asked in seen:
            continue
        seen.add(asked)
        yield wanted
        for text in metadata.requires(wanted.name) or ():
            further = Requirement(text)
            extras = wanted.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(further)


@pytest.mark.parametrize(("direct", "locked"), [(READ, LOCKED[READERS]), (DIRECT, EVERY)])
def test_a_lock_is_whole(direct: list[Requirement], locked: dict[str, str]) -> None:
    """Nothing is left for pip to choose, and no two packages ask for what the other excludes."""
    named = [(wanted, canonicalize_name(wanted.name)) for wanted in needed(direct)]
    assert {name for _, name in named} - locked.keys() == set()
    assert [str(w) for w, name in named if not w.specifier.contains(locked[name])] == []


def test_readers_install_nothing_that_only_developers_need() -> None:
    read = {canonicalize_name(wanted.name) for wanted in needed(READ)}
    developed = {canonicalize_name(wanted.name) for wanted in needed(DIRECT)} - read
    assert LOCKED[READERS].keys() & developed == set()


@pytest.mark.parametrize(
    ("target", "locks"),
    [
        ("book", {READERS}),
        ("test", {READERS, DEVELOPERS}),
        ("format", {READERS, DEVELOPERS}),
        ("cluster-env", {"requirements-cluster.lock"}),
    ],
)
def test_a_target_installs_what_it_needs(target: str, locks: set[str]) -> None:
    commands = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert set(re.findall(r"-r (\S+\.lock)", commands)) == locks


@pytest.mark.parametrize(
    ("file", "up"), [("environment.yml", "."), (".binder/environment.yml", "..")]
)
def test_conda_brings_python_and_the_lock_the_rest(file: str, up: str) -> None:
    parts = yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["dependencies"]
    lock = READERS if up == "." else f"{up}/{READERS}"
    assert parts[-1] == {"pip": [f"-r {lock}", f"-e {up}"]}
    python = next(p.removeprefix("python=") for p in parts if str(p).startswith("python="))
    assert Version(python) in SpecifierSet(PROJECT["project"]["requires-python"])


def test_every_dependency_is_justified() -> None:
    justified = {canonicalize_name(name) for row in table("## Dependencies") for name in row}
    wanted = [*DIRECT, *map(Requirement, EXTRAS["fuzz"])]
    assert justified == {canonicalize_name(each.name) for each in wanted}


def test_the_rooms_are_drawn_in_the_order_that_the_linter_checks() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    layers = [layer.split(" | ") for layer in contract["layers"]]
    drawing = section("## The rooms").split("```")[1]
    names = [re.findall(r"[a-z]+", line[:28]) for line in drawing.splitlines()]
    assert [row for row in names if row] == layers
    rooms = {path.parent.name for path in (REPOSITORY / "src/nbutils").glob("*/__init__.py")}
    assert rooms <= {name for layer in layers for name in layer}


def test_no_exception_is_made_of_the_import_rules() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    assert not any("ignore_imports" in contract for contract in contracts)


def test_how_to_contribute_is_read_in_one_sitting() -> None:
    assert len((REPOSITORY / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 250


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    version = PROJECT["project"]["version"]
    assert cited["version"] == version
    assert cited["license"] == PROJECT["project"]["license"]
    newest = re.search(r"^## (\S+?),", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert newest[1] == version
