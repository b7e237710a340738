"""Rounds: its panels."""

import pandas as pd

from nbutils.charts import rounds
from support.specs import offers_every_result


def test_the_panels_offer_every_result(tables: dict[str, pd.DataFrame]) -> None:
    names = ("gains", "falls", "corpora")
    offers_every_result(rounds.rounds(*(tables[name] for name in names)))
