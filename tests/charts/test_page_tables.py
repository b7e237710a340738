"""Tables: nothing untrusted reaches the page unescaped, and numbers have the digits they need."""

import re

import pandas as pd

from nbutils.charts.tables import table


def test_tables_escape_every_cell_and_badge_verdicts() -> None:
    """Names, text and headings are escaped; numbers are formatted."""
    frame = pd.DataFrame({"a<b": ["<i>x</i>"], "verdict": ["supported"], "n": [0.12345]})
    page = str(table(frame).data)
    assert "<i>" not in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "a&lt;b" in page
    assert 'class="nbutils-badge supported"' in page
    assert "0.123" in page


def test_numbers_of_a_table_have_the_digits_that_they_need() -> None:
    frame = pd.DataFrame(
        {
            "temperature": [0.7, 1.0], "documents": [2018.3, 900.0], "passages": [1234, 5],
            "share": [0.25, float("nan")], "useful": [True, False],
        }
    )  # fmt: skip
    shown = str(table(frame, digits=2).data)
    cells = re.findall(r"<td>(.*?)</td>", shown)
    some = pd.DataFrame({"planted": pd.Series([0.12345, None], dtype=object), "who": ["a", None]})
    assert re.findall(r"<td>(.*?)</td>", str(table(some).data)) == ["0.123", "a", "–", "–"]
    assert cells == ["0.7", "2,018", "1,234", "0.25", "True", "1", "900", "5", "–", "False"]
