"""Trajectories: the frontier, and what a stop is judged by."""

import json

import pandas as pd

from nbutils.analysis import experiments
from nbutils.charts import trajectories
from support.specs import offers_every_result


def test_the_frontier_offers_every_result_and_names_its_relations(
    tables: dict[str, pd.DataFrame],
) -> None:
    """No control has a trajectory."""
    gains, falls = tables["gains"], tables["falls"]
    stops = experiments.stopping_rule(falls, gains)
    chart = trajectories.frontier(experiments.trajectories(gains, falls), stops)
    legend = '"legend": {"values": ["self", "lineage", "cross-family"]}'
    assert legend in json.dumps(offers_every_result(chart))
