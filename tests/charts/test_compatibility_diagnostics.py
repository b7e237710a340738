"""Compatibility diagnostics: its ladder of predictors."""

import pandas as pd

from nbutils.analysis import predictors
from nbutils.charts import compatibility_diagnostics
from support.specs import offers_every_result


def test_the_ladder_offers_every_result(tables: dict[str, pd.DataFrame]) -> None:
    points = predictors.pairing_points(tables["proxies"], tables["gains"])
    judged = predictors.useful(predictors.left_out(points))
    offers_every_result(compatibility_diagnostics.predictors(judged))
