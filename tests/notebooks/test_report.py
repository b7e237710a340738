"""The report of a pairing whose corpus and manifests are a stranger's."""

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from nbutils.charts import parts
from nbutils.escaping import everywhere, visible
from nbutils.notebooks import execute
from nbutils.protocol import pairing, schedule
from nbutils.protocol.plan import load_plan
from nbutils.runs import environment
from support import contributed
from support.tiny import REPOSITORY

pytestmark = pytest.mark.xdist_group("report")  # its notebook is executed once

EVIL = "<script>alert(1)</script>\x1b[31mred\u202etxt.exe"
SEEN = "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31mred\\u202etxt.exe"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """The outputs of the executed notebook, which finds every run computed."""
    root = contributed.project(tmp_path_factory.mktemp("evil"))
    for source in (REPOSITORY / "notebooks").glob("*.py"):
        shutil.copy(source, root / "notebooks")
    known = contributed.rows

    def rows(stage: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
        frames = known(stage, rng)
        return {n: f.assign(text=EVIL) if n == "corpus" else f for n, f in frames.items()}

    form = contributed.form()
    with pytest.MonkeyPatch.context() as patch:
        contributed.make_up(patch)
        patch.setattr(contributed, "rows", rows)
        patch.setattr(environment, "device", lambda: EVIL)
        plan, cell = pairing.from_parameters(form, load_plan(form.tier, root))
        contributed.compute(root, schedule.of_report(plan, cell))
    place: Path = root / "report.ipynb"
    given = form.model_dump(mode="json", exclude_unset=True)
    notebook = nbformat.read(execute.execute("pairing", given, place, root), as_version=4)
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_a_sampled_document_and_a_manifest_are_text(report: list[nbformat.NotebookNode]) -> None:
    pages = [o.data["text/html"] for o in report if "text/html" in o.get("data", {})]
    assert sum(SEEN in page for page in pages) == 2, "the corpus, and the provenance"
    assert not [page for page in pages if "<script" in page or visible(page) != page]


def test_nothing_unseen_lies_in_any_output(report: list[nbformat.NotebookNode]) -> None:
    printed = [o.text for o in report if o.output_type == "stream"]
    plain = [o.data["text/plain"] for o in report if "text/plain" in o.get("data", {})]
    specs = [o.data[parts.MIME] for o in report if parts.MIME in o.get("data", {})]
    assert printed
    assert specs
    assert [everywhere(x) for x in (printed, plain, specs)] == [printed, plain, specs]
