"""Staging: checks of executed pages, notes about their state, and a footer under every chart."""

import ast
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat import NotebookNode

from nbutils.charts import provenance
from nbutils.charts.provenance import CHART, PROVENANCE
from nbutils.errors import UserError
from nbutils.escaping import for_page
from nbutils.notebooks import execute
from nbutils.results import history
from nbutils.runs import source_code

METHOD = "s.method("  # how the cell begins that prints the method
KEY = re.compile(r"<code>([0-9a-f]{10})</code>")  # as a footer shows the key of a run
REMEDY = "execute it again (nbutils publish TIER for a published one)"


class PageError(UserError):
    """A page is hollow or stale."""


class FooterError(UserError):
    """A page has a chart but no footer that names the runs behind it."""


def add(notebook: NotebookNode, name: str, tiers: Iterable[str]) -> int:
    """Put the page's footer under every chart of a staged page, and return the number of charts.

    ``tiers`` are the names of the tiers whose results the book reads.

    Raises:
        FooterError: The page has a chart but no footer.
    """
    outputs = [output["data"] for cell in notebook.cells for output in cell.get("outputs", ())
               if "text/html" in output.get("data", {})]  # fmt: skip
    charts = [data for data in outputs if CHART in data["text/html"]]
    footers = [data["text/html"] for data in outputs if PROVENANCE in data["text/html"]]
    if charts and not footers:
        raise FooterError(
            f"page {name} has a chart and says nothing of the runs behind it: end it with "
            "s.footer or s.footer_of, or s.note where there are no runs"
        )
    for data in charts:
        data["text/html"] += footers[-1] + _as_html(commands(notebook, name, tiers, footers[-1]))
    return len(charts)


def commands(notebook: NotebookNode, name: str, tiers: Iterable[str], footer: str) -> list[str]:
    """The commands that reproduce a page's charts, one per tier that its footer names."""
    given = [f"-p {key} {shlex.quote(str(value))}" for key, value in parameters(notebook).items()]
    execute_page = " ".join([f"nbutils notebook {name}", *given])
    named = [tier for tier in dict.fromkeys(tiers) if f">{for_page(tier)} · " in footer]
    return [f"nbutils run {tier} && {execute_page}" for tier in named] or [execute_page]


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """The parameters with which a notebook was executed, except the project's folder."""
    values = {}
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                    values[line.targets[0].id] = ast.literal_eval(line.value)
    return {key: value for key, value in values.items() if key != "root"}


def _as_html(commands: Iterable[str]) -> str:
    """Commands with a button that copies each."""
    return "".join(
        f'<p class="nbutils-reproduce"><button type="button" class="nbutils-copy" '
        f'data-copy="{line}">Copy</button> <code>{line}</code></p>'
        for line in map(for_page, commands)
    )


def check(notebook: NotebookNode, name: str, keys: set[str]) -> None:
    """Raise unless a page may be shown. ``keys`` are the keys of all runs with a manifest.

    Raises:
        PageError: The page is hollow (a cell failed or was not executed, or none has an output),
            or stale (none of the runs that it names has a manifest).
    """
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    outputs = [output for cell in code for output in cell.outputs]
    skipped = sum(cell.execution_count is None for cell in code)
    failed = [output.ename for output in outputs if output.output_type == "error"]
    if skipped or failed or not outputs:
        reason = f"a cell failed with {failed[0]}" if failed else "no cell printed anything"
        reason = f"{skipped} of {len(code)} cells were not executed" if skipped else reason
        raise PageError(f"page {name} is hollow, {reason}: {REMEDY}")
    named = _named(notebook)
    # a report of one pairing has runs that its tier lacks, so some may be in no table
    if named and named.isdisjoint(key[:10] for key in keys):
        raise PageError(
            f"page {name} is stale, none of the runs that it names has rows in a table, for "
            f"instance {min(named)}: {REMEDY}"
        )


def introduce(notebook: NotebookNode, name: str, root: Path, manifests: pd.DataFrame) -> None:
    """Add a note below the title of a page that is unexecuted or out of date.

    A page is out of date if its source was edited, or if its runs are of earlier versions of their
    stages. The note of the opening page is below its chart. ``manifests`` are rows of
    ``tables.manifests``.
    """
    if all(c.get("execution_count") is None for c in notebook.cells if c.cell_type == "code"):
        notes = [
            "No published tier has executed this page, so it has no results. "
            f"`nbutils notebook {name}` executes it on your machine."
        ]
    else:
        notes = _of_earlier_versions(notebook, manifests)
        if _source(notebook) != execute.source_digest(execute.sources(root)[name]):
            notes.append(
                "The source of this page was edited after it was executed. Text, code and results "
                "below are those of its execution."
            )
    if notes:
        content = ":::{note}\n" + "\n\n".join(notes) + "\n:::"
        prose = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
        place = prose[1] if name == "opening" else 1
        note = nbformat.v4.new_markdown_cell(content, id="introduction")
        notebook.cells.insert(place, note)


def _of_earlier_versions(notebook: NotebookNode, manifests: pd.DataFrame) -> list[str]:
    """One sentence per set of stages that have runs of earlier versions behind a page."""
    if manifests.empty:
        return []
    behind = manifests[manifests["key"].str[:10].isin(_named(notebook))]
    every = manifests.groupby("results")["stage"].nunique()
    labels: dict[str, list[str]] = {}
    for label, stages in history.earlier(behind).items():
        whole = len(stages) == every[label]
        labels.setdefault("all stages" if whole else ", ".join(stages), []).append(f"*{label}*")
    return [
        f"The results of {', '.join(names)} are of earlier versions of {stages}: they are shown as "
        "they were measured then. `nbutils run TIER` computes a tier by the current versions."
        for stages, names in labels.items()
    ]


def _named(notebook: NotebookNode) -> set[str]:
    """The first ten digits of the keys of all runs that an executed page names."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [output.get("data", {}).get("text/html", "") for output in outputs]
    return {key for text in texts if provenance.PROVENANCE in text for key in KEY.findall(text)}


def _source(notebook: NotebookNode) -> str | None:
    """The digest of the source that a notebook was converted from, if it is recorded."""
    digest: str | None = notebook.metadata.get("nbutils", {}).get("source_sha256")
    return digest


def show_method(notebook: NotebookNode, name: str, root: Path) -> None:
    """Print the method on the page of a stage that lacks it: the core of the stage's module.

    An unexecuted page has a cell for the method. A page that was executed before its source had
    this cell gets the cell, and the prose before it, in front of its last section.
    """
    source = nbformat.read(execute.convert(name, root), as_version=4)
    calls = [i for i, cell in enumerate(source.cells) if cell.source.startswith(METHOD)]
    if not calls:
        return
    prose, call = source.cells[calls[0] - 1 : calls[0] + 1]
    methods = [cell for cell in notebook.cells if cell.source.startswith(METHOD)]
    if not methods:
        titles = ("## Where this comes from", "## Runs behind")
        last = (i for i, cell in enumerate(notebook.cells) if cell.source.startswith(titles))
        place = next(last, len(notebook.cells))
        prose["id"], call["id"] = "method-prose", "method-code"  # other cells may have their ids
        notebook.cells[place:place] = [prose, call]
        methods = [call]
    for cell in methods:
        if not cell.outputs:
            modules = re.findall(r'"([\w.]+)"', cell.source) or [f"protocol.{name}"]
            data = {"text/markdown": source_code.printed(*modules)}
            cell.outputs = [nbformat.v4.new_output("display_data", data)]


def check_site(pages: Path, site: Path) -> None:
    """Raise unless every staged page was rendered after it was staged, with all of its charts.

    Raises:
        PageError: A page is missing from the built book, is older than its notebook, or lacks a
            chart.
    """
    for path in sorted([*pages.glob("*.ipynb"), *pages.glob("workshop/*.ipynb")]):
        built = site / path.relative_to(pages).with_suffix(".html")
        if not built.is_file():
            raise PageError(f"page {path.stem} is not in the book: give it a line in _toc.yml")
        if built.stat().st_mtime < path.stat().st_mtime:
            raise PageError(f"page {path.stem} is stale: delete book/_build and build again")
        wanted = sum(
            output.get("data", {}).get("text/html", "").count(provenance.CHART)
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", ())
        )
        if built.read_text("utf-8").count(provenance.CHART) < wanted:
            raise PageError(f"page {path.stem} is hollow: a chart of its {wanted} was not rendered")
