"""Staging: pages that are whole and say what they are, with a footer under every chart."""

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
    """A page has a chart and does not say which runs are behind it."""


def add(notebook: NotebookNode, name: str, tiers: Iterable[str]) -> int:
    """Put the page's own footer under every chart of a staged page, and return their number.

    ``tiers`` are the names of the tiers whose results the book reads.

    Raises:
        FooterError: There is a chart, and the page has no footer.
    """
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", ())
             if "text/html" in output.get("data", {})]  # fmt: skip
    drawn = [data for data in shown if CHART in data["text/html"]]
    said = [data["text/html"] for data in shown if PROVENANCE in data["text/html"]]
    if drawn and not said:
        raise FooterError(
            f"page {name} has a chart and says nothing of the runs behind it: end it with "
            "s.footer or s.footer_of, or s.note where there are no runs"
        )
    for data in drawn:
        data["text/html"] += said[-1] + _repeat(commands(notebook, name, tiers, said[-1]))
    return len(drawn)


def commands(notebook: NotebookNode, name: str, tiers: Iterable[str], said: str) -> list[str]:
    """What a person types to make a page's charts again, one command per tier that it names."""
    given = [f"-p {key} {shlex.quote(str(value))}" for key, value in parameters(notebook).items()]
    once = " ".join([f"nbutils notebook {name}", *given])
    spoken = [tier for tier in dict.fromkeys(tiers) if f">{for_page(tier)} · " in said]
    return [f"nbutils run {tier} && {once}" for tier in spoken] or [once]


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """The parameters with which a notebook was executed, but for the project's folder."""
    found = {}
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                    found[line.targets[0].id] = ast.literal_eval(line.value)
    return {key: value for key, value in found.items() if key != "root"}


def _repeat(lines: Iterable[str]) -> str:
    shown = map(for_page, lines)
    return "".join(
        f'<p class="nbutils-reproduce"><button type="button" class="nbutils-copy" '
        f'data-copy="{line}">Copy</button> <code>{line}</code></p>'
        for line in shown
    )


def check(notebook: NotebookNode, name: str, keys: set[str]) -> None:
    """Raise unless a page may be shown. ``keys`` are those of all runs with a manifest.

    Raises:
        PageError: The page is hollow (a cell failed or was not executed, or nothing came out), or
            stale (all runs that it names are others than those of the tables).
    """
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    outputs = [output for cell in code for output in cell.outputs]
    skipped = sum(cell.execution_count is None for cell in code)
    failed = [output.ename for output in outputs if output.output_type == "error"]
    if skipped or failed or not outputs:
        why = f"a cell failed with {failed[0]}" if failed else "no cell printed anything"
        why = f"{skipped} of {len(code)} cells were not executed" if skipped else why
        raise PageError(f"page {name} is hollow, {why}: {REMEDY}")
    named = _named(notebook)
    # a report of one pairing measures more than its tier, so some may be of no table
    if named and named.isdisjoint(key[:10] for key in keys):
        raise PageError(
            f"page {name} is stale, none of the runs that it names has rows in a table, for "
            f"instance {min(named)}: {REMEDY}"
        )


def introduce(notebook: NotebookNode, name: str, root: Path, manifests: pd.DataFrame) -> None:
    """Say so under the title of a page that is not what its source, or its stages, make now.

    The opening page answers first: there it stands below the chart. ``manifests`` are rows of
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
    """A sentence on the results behind a page that its stages would not give now, if any are."""
    if manifests.empty:
        return []
    behind = manifests[manifests["key"].str[:10].isin(_named(notebook))]
    every = manifests.groupby("results")["stage"].nunique()
    labels: dict[str, list[str]] = {}
    for label, stages in history.earlier(behind).items():
        whole = len(stages) == every[label]
        labels.setdefault("all stages" if whole else ", ".join(stages), []).append(f"*{label}*")
    return [
        f"The results of {', '.join(names)} are of earlier versions of {stages}: they stand as "
        "they were measured then. `nbutils run TIER` computes a tier as the stages are now."
        for stages, names in labels.items()
    ]


def _named(notebook: NotebookNode) -> set[str]:
    """The first digits of the keys of all runs that an executed page names."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [output.get("data", {}).get("text/html", "") for output in outputs]
    return {key for text in texts if provenance.PROVENANCE in text for key in KEY.findall(text)}


def _source(notebook: NotebookNode) -> str | None:
    """Digest of the source that a notebook was converted from."""
    digest: str | None = notebook.metadata.get("nbutils", {}).get("source_sha256")
    return digest


def show_method(notebook: NotebookNode, name: str, root: Path) -> None:
    """Print the method on a stage's page that has not printed it: the core of its module, as it is.

    A page that nobody executed has a cell for it. One that was executed before its source had that
    cell gets it, and the prose before it, in front of its last section.
    """
    source = nbformat.read(execute.convert(name, root), as_version=4)
    calls = [i for i, cell in enumerate(source.cells) if cell.source.startswith(METHOD)]
    if not calls:
        return
    prose, call = source.cells[calls[0] - 1 : calls[0] + 1]
    there = [cell for cell in notebook.cells if cell.source.startswith(METHOD)]
    if not there:
        titles = ("## Where this comes from", "## Runs behind")
        last = (i for i, cell in enumerate(notebook.cells) if cell.source.startswith(titles))
        place = next(last, len(notebook.cells))
        prose["id"], call["id"] = "method-prose", "method-code"  # others may have theirs
        notebook.cells[place:place] = [prose, call]
        there = [call]
    for cell in there:
        if not cell.outputs:
            modules = re.findall(r'"([\w.]+)"', cell.source) or [f"protocol.{name}"]
            shown = {"text/markdown": source_code.printed(*modules)}
            cell.outputs = [nbformat.v4.new_output("display_data", shown)]


def check_site(pages: Path, site: Path) -> None:
    """Raise unless every staged page was rendered after it was staged, with all of its charts.

    Raises:
        PageError: A page is missing from the built book, is older than what it shows, or lost a
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
