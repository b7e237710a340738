"""Memorization decoupling: its plane of both changes."""

import json

import pandas as pd

from nbutils.analysis import verdicts
from nbutils.charts import memorization_decoupling
from support.specs import offers_every_result


def test_the_plane_offers_every_result_and_shows_controls(tables: dict[str, pd.DataFrame]) -> None:
    pairings = verdicts.decoupling_pairings(tables["gains"], tables["falls"])
    spec = offers_every_result(memorization_decoupling.decoupling(pairings))
    assert '"cross-family", "control"]}' in json.dumps(spec)
