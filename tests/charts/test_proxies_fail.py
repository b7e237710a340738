"""Proxies fail: its scatter plot."""

import pandas as pd

from nbutils.analysis import predictors
from nbutils.charts import proxies_fail
from support.specs import offers_every_result


def test_the_scatter_plot_offers_every_result(tables: dict[str, pd.DataFrame]) -> None:
    points = predictors.pairing_points(tables["proxies"], tables["gains"])
    correlations = predictors.proxy_correlations(points)
    offers_every_result(proxies_fail.proxy_scatter(points, correlations))
