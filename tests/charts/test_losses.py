"""Losses: few rows, and all that matters."""

import json
from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from nbutils.charts import losses, parts
from support.specs import offers_every_result

Tables = dict[str, pd.DataFrame]


def test_loss_curves_offer_every_result_and_name_their_relations(tables: Tables) -> None:
    """No control has a loss curve."""
    spec = offers_every_result(losses.loss_curves(tables["curves"]))
    legend = '"legend": {"values": ["self", "lineage", "cross-family"]}'
    assert legend in json.dumps(spec)


@given(st.integers(0, 2000), st.integers(1, 100))
def test_thinned_rows_are_few_in_order_and_keep_the_end(count: int, most: int) -> None:
    """Of a curve the last point matters most, and one that is short enough stays whole."""
    places = losses.thinned(count, most)
    assert len(places) == min(count, most) or most / 2 < len(places) < most
    assert places == sorted(set(places))
    assert places[-1:] == list(range(count))[-1:]
    assert len({b - a for a, b in pairwise(places)}) <= 1


def test_many_loss_curves_fit_one_chart(tables: Tables) -> None:
    """Each keeps its last step."""
    steps = range(parts.MAX_ROWS)
    one = tables["curves"].head(1).drop(columns=["run", "step"])
    curves = [one.merge(pd.DataFrame({"run": run, "step": steps}), how="cross") for run in "ab"]
    spec = losses.loss_curves(pd.concat(curves)).to_dict()
    (rows,) = spec["datasets"].values()
    assert len(rows) <= parts.MAX_ROWS
    assert [row["run"] for row in rows if row["step"] == steps[-1]] == ["a", "b"]


def test_one_loss_curve_is_thinned() -> None:
    """A long run keeps its shape in fewer rows."""
    steps = range(3 * parts.MAX_ROWS)
    spec = losses.loss_curve(pd.DataFrame({"step": steps, "loss": 1.0})).to_dict()
    assert all(100 < len(rows) <= parts.MAX_ROWS for rows in spec["datasets"].values())
