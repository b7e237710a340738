"""Pages: what is hollow or stale is not shown, and every chart stands over its runs."""

import ast
import inspect
import os
from importlib import import_module
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat import NotebookNode

from nbutils.book import staging
from nbutils.charts import provenance as charts_provenance
from nbutils.charts.provenance import note
from nbutils.notebooks import execute
from nbutils.protocol import stages
from nbutils.runs import source_code
from support.tiny import REPOSITORY

KEYS = {"0123456789abcdef", "fedcba9876543210"}


def executed(*htmls: str, source: str = "") -> NotebookNode:
    """A notebook whose only code cell put out some HTML."""
    outputs = [nbformat.v4.new_output("display_data", {"text/html": html}) for html in htmls]
    cell = nbformat.v4.new_code_cell("show()", outputs=outputs, execution_count=1)
    title = nbformat.v4.new_markdown_cell("# A page")
    notebook = nbformat.v4.new_notebook(cells=[title, cell])
    notebook.metadata["nbutils"] = {"source_sha256": source}
    return notebook


def provenance(*keys: str, label: str = "tiny · published") -> str:
    """The footer of runs, as pages have it."""
    row = {"created": "2026-01-02", "versions": {"torch": "2"}, "device": "cpu", "results": label}
    return str(
        charts_provenance.footer(pd.DataFrame([row | {"key": key} for key in keys]), keys).data
    )


CHART = f"<div {charts_provenance.CHART}></div>"


def test_an_executed_page_of_known_runs_may_be_shown() -> None:
    staging.check(executed("<p>text</p>", provenance(*KEYS)), "some", KEYS)
    staging.check(executed("<p>no runs at all</p>"), "some", KEYS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("skipped", "page some is hollow, 1 of 1 cells were not executed"),
        ("failed", "page some is hollow, a cell failed with ValueError"),
        ("silent", "page some is hollow, no cell printed anything"),
    ],
)
def test_a_hollow_page_is_refused(change: str, message: str) -> None:
    notebook = executed("<p>text</p>")
    cell = notebook.cells[1]
    if change == "skipped":
        cell.execution_count = None
    elif change == "failed":
        cell.outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue="no"))
    else:
        cell.outputs = []
    with pytest.raises(staging.PageError, match=message):
        staging.check(notebook, "some", KEYS)


def test_a_page_of_other_runs_is_stale() -> None:
    with pytest.raises(
        staging.PageError, match=r"page some is stale.*instance aaaaaaaaaa: execute"
    ):
        staging.check(executed(provenance("a" * 16)), "some", KEYS)


def test_a_report_may_name_runs_that_no_table_has_beside_others() -> None:
    staging.check(executed(provenance(min(KEYS)) + provenance("a" * 16)), "some", KEYS)


def test_a_page_says_that_it_was_not_executed_or_that_its_source_changed() -> None:
    now = execute.source_digest(execute.sources(REPOSITORY)["self_train"])
    never = executed("x", source=now)
    never.cells[1].execution_count = None
    for notebook, said in (
        (executed("x", source=now), None),
        (executed("x", source="older"), "was edited after it was executed"),
        (never, "No published tier has executed this page"),
    ):
        number = len(notebook.cells)
        staging.introduce(notebook, "self_train", REPOSITORY, pd.DataFrame())
        assert len(notebook.cells) == number + (said is not None)
        assert said is None or said in notebook.cells[1].source


def test_a_page_says_which_of_its_results_are_of_earlier_versions() -> None:
    """Of the runs that it names: others, and other tiers, are no matter of this page."""
    source = execute.source_digest(execute.sources(REPOSITORY)["rounds"])
    now, named, other = stages.versions()["trace"], sorted(KEYS), "f" * 16
    rows = [
        ("tiny · published", "trace", now, named[0]),
        ("tiny · published", "self_train", 0, named[1]),
        ("lab · published", "trace", 0, other),
    ]
    columns = ["results", "stage", "version", "key"]
    manifests = pd.DataFrame(rows, columns=columns)
    page = executed(provenance(*named), source=source)
    staging.introduce(page, "rounds", REPOSITORY, manifests)
    assert len(page.cells) == 3
    said = page.cells[1].source
    assert "results of *tiny · published* are of earlier versions of self_train: " in said
    every = manifests.assign(version=0)
    page = executed(provenance(*named, other), source=source)
    staging.introduce(page, "rounds", REPOSITORY, every)
    told = "results of *tiny · published*, *lab · published* are of earlier versions of all stages"
    assert told in page.cells[1].source


def test_ends_of_lines_make_no_other_source(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.py", tmp_path / "theirs.py"
    ours.write_bytes(b"# %%\n1\n")
    theirs.write_bytes(b"# %%\r\n1\r\n")
    assert execute.source_digest(ours) == execute.source_digest(theirs)


def test_every_chart_stands_over_its_runs_and_its_command() -> None:
    notebook = executed(CHART, CHART, provenance(*KEYS))
    assert staging.add(notebook, "rounds", ["lab", "tiny"]) == 2
    for output in notebook.cells[1].outputs[:2]:
        text = output.data["text/html"]
        assert text.startswith(CHART)
        assert "tiny · published: 2 runs, 2026-01-02, on cpu" in text
        assert 'data-copy="nbutils run tiny &amp;&amp; nbutils notebook rounds"' in text
        assert "nbutils run lab" not in text  # no run of it is behind the page


def test_a_stage_page_is_repeated_with_its_own_parameters() -> None:
    notebook = executed(CHART, provenance(*KEYS, label="tiny"))
    given = "# Parameters\ntier = 'tiny'\nsource = 'a b'\nroot = '.'\nseed = 3\n"
    cell = nbformat.v4.new_code_cell(given, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(1, cell)
    staging.add(notebook, "self_train", ["tiny"])
    text = notebook.cells[2].outputs[0].data["text/html"]
    assert "nbutils notebook self_train -p tier tiny -p source &#x27;a b&#x27; -p seed 3<" in text


def test_a_chart_without_runs_is_refused_and_a_note_is_escaped() -> None:
    with pytest.raises(staging.FooterError, match="page some has a chart and says nothing"):
        staging.add(executed(CHART), "some", ["tiny"])
    notebook = executed(CHART, str(note("worlds <made up>").data))
    staging.add(notebook, "how_sure", ["tiny"])
    text = notebook.cells[1].outputs[0].data["text/html"]
    assert "worlds &lt;made up&gt;" in text
    assert 'data-copy="nbutils notebook how_sure"' in text


def test_a_built_page_that_is_missing_old_or_lost_a_chart_is_refused(tmp_path: Path) -> None:
    staged, site = tmp_path / "staged", tmp_path / "site"
    staged.mkdir()
    site.mkdir()
    nbformat.write(executed(CHART, provenance(*KEYS)), staged / "some.ipynb")
    with pytest.raises(staging.PageError, match=r"page some is not in the book.*_toc\.yml"):
        staging.check_site(staged, site)
    (site / "some.html").write_text("<html></html>", "utf-8")
    with pytest.raises(staging.PageError, match="page some is hollow: a chart of its 1"):
        staging.check_site(staged, site)
    (site / "some.html").write_text(CHART, "utf-8")
    staging.check_site(staged, site)
    later = (site / "some.html").stat().st_mtime + 5
    os.utime(staged / "some.ipynb", (later, later))
    with pytest.raises(staging.PageError, match="page some is stale: delete book/_build"):
        staging.check_site(staged, site)


@pytest.mark.parametrize("before", [True, False])
def test_a_page_prints_the_method_that_it_has_not_printed(before: bool) -> None:
    """Executed before its source had a cell for it, or not executed at all."""
    title = nbformat.v4.new_markdown_cell("# A page")
    last = nbformat.v4.new_markdown_cell("## Where this comes from")
    call = nbformat.v4.new_code_cell("s.method()")
    page = nbformat.v4.new_notebook(cells=[title, *([] if before else [call]), last])
    staging.show_method(page, "sample_corpus", REPOSITORY)
    *_, shown, end = page.cells
    assert end.source == "## Where this comes from"
    text = shown.outputs[0]["data"]["text/markdown"]
    assert text == f"```python\n{source_code.core('protocol.sample_corpus')}```\n"
    assert "def sample_batch(" in text
    assert page.cells[-3].source.startswith("## ") is before


def test_what_a_page_has_printed_stays() -> None:
    output = nbformat.v4.new_output("display_data", {"text/markdown": "as it was"})
    cell = nbformat.v4.new_code_cell("s.method()", outputs=[output], execution_count=1)
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page"), cell])
    staging.show_method(page, "sample_corpus", REPOSITORY)
    assert page.cells[1].outputs[0]["data"]["text/markdown"] == "as it was"


@pytest.mark.parametrize("name", [s.name for s in stages.STAGES.values() if s.name == s.module])
def test_the_printed_source_is_the_running_one(name: str) -> None:
    """Every function of a core is the one that its module has, and cores are short."""
    core = source_code.core(f"protocol.{name}")
    module = import_module(f"nbutils.protocol.{name}")
    functions = [n.name for n in ast.parse(core).body if isinstance(n, ast.FunctionDef)]
    assert functions
    for function in functions:
        running = inspect.unwrap(getattr(module, function))
        assert inspect.getsource(running) in core
    assert core.count("\n") <= 65
