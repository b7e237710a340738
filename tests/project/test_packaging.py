"""What is installed, by whichever way: package, lock, conda's environment and Binder's agree."""

import re
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
LINES = (REPOSITORY / "requirements.lock").read_text("utf-8").splitlines()
LOCKED = dict(line.split("==") for line in LINES)
EXTRAS = PROJECT["project"]["optional-dependencies"]
FUZZ = "fuzz"  # its one package has no place in the lock: see CONTRIBUTING.md
NAMED = [d for name, extra in EXTRAS.items() if name != FUZZ for d in extra]
DIRECT = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *NAMED]]


def test_the_lock_names_each_package_once_by_version_alone() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line) for line in LINES)
    assert list(LOCKED) == sorted(LOCKED)
    assert len(LOCKED) == len(LINES)


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_the_lock_satisfies_what_the_package_asks_for(wanted: Requirement) -> None:
    assert wanted.specifier.contains(LOCKED[canonicalize_name(wanted.name)])


def needed() -> Iterator[Requirement]:
    """Every requirement here, followed from the package's own to the last."""
    waiting, seen = list(DIRECT), set()
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


def test_the_lock_is_whole() -> None:
    """Nothing is left for pip to choose, and no two packages ask for what the other excludes."""
    named = [(wanted, canonicalize_name(wanted.name)) for wanted in needed()]
    assert {name for _, name in named} - LOCKED.keys() == set()
    assert [str(w) for w, name in named if not w.specifier.contains(LOCKED[name])] == []


@pytest.mark.parametrize(
    ("file", "up"), [("environment.yml", "."), (".binder/environment.yml", "..")]
)
def test_conda_brings_python_and_the_lock_the_rest(file: str, up: str) -> None:
    parts = yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["dependencies"]
    lock = "requirements.lock" if up == "." else f"{up}/requirements.lock"
    assert parts[-1] == {"pip": [f"-r {lock}", f"-e {up}"]}
    python = next(p.removeprefix("python=") for p in parts if str(p).startswith("python="))
    assert Version(python) in SpecifierSet(PROJECT["project"]["requires-python"])


def test_every_dependency_is_justified() -> None:
    justified = {canonicalize_name(name) for row in table("## Dependencies") for name in row}
    wanted = [*DIRECT, *map(Requirement, EXTRAS[FUZZ])]
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
