"""A chart whose names are markup: its labels, choices and tooltips show it as text."""

import shutil
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from nbutils.book import build, embed
from nbutils.charts import parts
from support.browser import CHROMIUM, SIZES, Server, chromium, open_page
from support.tiny import REPOSITORY

EVIL = '<img src="x" onerror="window.ran=1"><script>window.ran=1</script>'


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium")
def test_names_in_a_chart_are_text(tmp_path: Path) -> None:
    parts.enable()
    rows = pd.DataFrame({"results": ["tiny"], "student": [EVIL], "gain": [1.0]})
    choices, chosen = parts.selectors(rows, "student")
    chart = (
        alt.Chart(rows, width=400, height=200, description=EVIL)
        .mark_point(size=20_000, filled=True)
        .transform_filter(chosen)
        .encode(x="gain:Q", y="student:N", tooltip=parts.tooltips("student", "gain"))
        .add_params(*choices)
    )
    spec = parts._spec_only(chart.to_dict())[parts.MIME]
    static = tmp_path / "book" / "_static"
    static.mkdir(parents=True)
    shutil.copy(REPOSITORY / "book" / "_static" / "charts.js", static)
    build.generate_scripts(tmp_path)
    page = f"<!doctype html><body>{embed.embed(spec)}<script src='_static/charts.js'></script>"
    (tmp_path / "book" / "page.html").write_text(page, "utf-8")
    with Server(tmp_path) as address, chromium() as browser:
        shown, problems = open_page(browser, address, "book/page.html", SIZES["desktop"], "light")
        shown.locator(".nbutils-canvas .mark-symbol path").first.hover(force=True)
        tooltip = shown.locator("#nbutils-tip")
        tooltip.wait_for()
        assert EVIL in tooltip.inner_text()
        assert EVIL in shown.locator("select").last.inner_text()
        assert shown.locator("img").count() == 0
        assert shown.evaluate("window.ran") is None
        assert [p for p in problems if "favicon" not in p] == []
