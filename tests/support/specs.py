"""Tables for the charts of every page, and what each chart's specification must hold."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from altair.typing import ChartType

from nbutils.charts import parts
from nbutils.results.tables import COLUMNS, load, manifests
from support.synthetic import write_tables


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Every table of a published tier and of your run, and the manifests behind them."""
    parts.enable()
    root: Path = tmp_path_factory.mktemp("project")
    write_tables(root / "book/results/tiny", "supported")
    write_tables(root / "runs/tables/tiny", "undecided", seed=1)
    loaded = {name: load(name, root) for name in COLUMNS}
    return loaded | {"manifests": manifests(root)}


def offers_every_result(chart: ChartType) -> dict[str, Any]:
    """Check a chart of ``tables``, and return its specification.

    The selector lists both labels; there is a description and a bounded number of rows.
    """
    spec: dict[str, Any] = chart.to_dict()
    choice = next(p for p in spec["params"] if p["name"] == "results_choice")
    assert choice["bind"]["options"] == ["tiny · published", "tiny · your run"]
    assert choice["value"] == "tiny · published"
    assert spec["description"]
    assert all(len(rows) <= parts.MAX_ROWS for rows in spec["datasets"].values())
    assert '"width": "container"' not in json.dumps(spec)
    return spec
