"""Temperature: its linked panels."""

import pandas as pd

from nbutils.charts import temperature
from support.specs import offers_every_result


def test_the_panels_offer_every_result(tables: dict[str, pd.DataFrame]) -> None:
    names = ("corpora", "gains", "falls")
    offers_every_result(temperature.temperatures(*(tables[name] for name in names)))
