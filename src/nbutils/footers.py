"""Footers: what stands under every chart of a page: the runs behind it, and how to repeat it."""

import ast
import shlex
from collections.abc import Iterable
from typing import Any

from IPython.display import HTML
from nbformat import NotebookNode

from nbutils.escaping import for_page
from nbutils.params import UserError

CHART = 'class="nbutils-chart"'
PROVENANCE = 'class="nbutils-provenance"'


class FooterError(UserError):
    """A page has a chart and does not say which runs are behind it."""


def note(text: str) -> HTML:
    """The footer of charts that no run is behind: what they were made from instead."""
    return HTML(f"<div {PROVENANCE}><p>{for_page(text)}</p></div>")


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
            "charts.provenance or charts.made_by, or footers.note where there are no runs"
        )
    for data in drawn:
        data["text/html"] += said[-1] + _repeat(commands(notebook, name, tiers, said[-1]))
    return len(drawn)


def commands(notebook: NotebookNode, name: str, tiers: Iterable[str], said: str) -> list[str]:
    """What a person types to make a page's charts again, one command a tier that it speaks of."""
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
