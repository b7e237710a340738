"""Parts: what every chart rests on."""

import pandas as pd
import pytest

from nbutils.charts import parts


def test_intervals_at_one_place_stand_beside_one_another() -> None:
    """Around where they belong, within each result label; a single one stays."""
    rows = pd.DataFrame(
        {
            "results": ["a", "a", "a", "a", "b", "b"],
            "student": ["x", "y", "x", "y", "z", "z"],
            "round": [1, 1, 2, 2, 1, 2],
        }
    )
    place = parts.aside(rows, "round", "student")
    assert place.is_unique
    assert place.groupby([rows["results"], rows["round"]]).mean().tolist() == [1, 2, 1, 2]
    assert (place - rows["round"]).abs().max() < 0.05


def test_too_many_rows_are_refused() -> None:
    """A spec never holds more than a chart can."""
    with pytest.raises(ValueError, match="aggregate"):
        parts.checked(pd.DataFrame({"x": range(parts.MAX_ROWS + 1)}))


def test_the_renderer_stores_the_spec_alone() -> None:
    """No script and no address of another host lies in the notebook."""
    bundle = parts._spec_only({"mark": "bar"})
    assert set(bundle) == {parts.MIME, "text/plain"}
