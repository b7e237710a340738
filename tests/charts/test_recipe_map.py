"""Recipe map: its heat maps."""

import pandas as pd

from nbutils.analysis import experiments
from nbutils.charts import recipe_map
from support.specs import offers_every_result


def test_the_map_offers_every_result(tables: dict[str, pd.DataFrame]) -> None:
    rows = experiments.recipe_gains(tables["gains"], tables["falls"])
    offers_every_result(recipe_map.recipe_map(rows))
    assert recipe_map.counts(rows)["recipes"].sum() == len(rows)
