"""Charts become pages: compiled, with still pictures, safe for any text, in telling colours."""

import json
import re
from itertools import combinations
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest

from nbutils.book import embed
from nbutils.charts import parts, theme

STATIC = Path(__file__).parents[2] / "book/_static"
EVIL = '</script><img src=x onerror="alert(1)">'
# What a dichromat sees, in linear RGB (Machado, Oliveira and Fernandes, 2009, severity 1).
SEEN_BY = {
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                  [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                    [-0.011820, 0.042940, 0.968881]],
    "everyone": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip


@pytest.fixture(scope="module")
def spec() -> dict:
    """A small chart with a drop-down, whose text is hostile."""
    parts.enable()
    rows = pd.DataFrame({"x": [1 / 3, 2], "name": [EVIL, "plain"]})
    chosen = parts.choice("which", "Which", ["a", "b"])
    return (
        alt.Chart(rows, title=EVIL, description=EVIL, width=parts.WIDTH, height=100)
        .mark_text()
        .encode(x="x:Q", text="name:N")
        .add_params(chosen)
        .to_dict()
    )


def test_embedded_charts_cannot_close_their_script_and_hold_no_markup(spec: dict) -> None:
    """Text from a model stays text: in the script, in attributes and in the still picture."""
    page = embed.embed(spec)
    assert page.count("</script>") == 1
    assert "<img" not in page
    body = page.split('<script type="application/json">')[1].split("</script>")[0]
    values = [row for table in json.loads(body)["data"] for row in table.get("values", ())]
    assert EVIL in [row["name"] for row in values]


def test_numbers_are_short_and_nothing_of_vega_lite_is_left(spec: dict) -> None:
    vega = embed.compiled(spec)
    assert "/vega/" in vega["$schema"]
    assert "0.333333" in json.dumps(vega)
    assert "0.3333333" not in json.dumps(vega)


def test_text_follows_the_page_and_keeps_a_colour_without_one(spec: dict) -> None:
    """In the live chart and in the still picture; the style sheet knows every variable."""
    page = embed.embed(spec)
    body, picture = page.split("</script>")
    sheet = (STATIC / "book.css").read_text("utf-8")
    for name, colour in theme.INK.items():
        assert f"--nbutils-{name}:" in sheet
        if name != "page":  # the halo of a label, which this chart has not
            assert f"var(--nbutils-{name}, {colour})" in body
            assert f"var(--nbutils-{name}, {colour})" in picture
            assert f'"{colour}"' not in page


def test_a_still_picture_is_as_wide_as_its_column_and_shares_no_name(spec: dict) -> None:
    page = embed.embed(spec)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', page)[1])  # type: ignore[index]
    assert abs(width - embed.WIDE) < 5
    other = embed.embed(spec | {"description": "another", "height": 120})
    names = [set(re.findall(r'\bid="([^"]+)"', html)) for html in (page, other)]
    assert not names[0] & names[1]


def test_the_place_of_a_chart_counts_its_controls(spec: dict) -> None:
    """On a phone each control has a row of its own."""
    bare = embed.embed(spec | {"params": []})
    rows = [int(re.search(r"--tall: (\d+)", html)[1]) for html in (bare, embed.embed(spec))]  # type: ignore[index]
    assert rows[1] - rows[0] == embed.CONTROL
    sheet = (STATIC / "book.css").read_text("utf-8")
    assert f"grid-auto-rows: {embed.CONTROL}px" in sheet
    assert f"min-height: {embed.TOOLS}px" in sheet
    assert f"repeat({embed.CONTROLS[embed.WIDE]}, " in sheet


def test_a_chart_is_compiled_once(
    spec: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second build of the book reads what the first one made; another chart is made anew."""
    first = embed.cached(spec, tmp_path)
    assert first == embed.embed(spec)
    monkeypatch.setattr(embed, "embed", lambda _: "made anew")
    assert embed.cached(spec, tmp_path) == first
    assert embed.cached(spec | {"height": 101}, tmp_path) == "made anew"


def _linear(colour: str) -> np.ndarray:
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a linear RGB colour under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", list(SEEN_BY))
def test_eyes_that_see_fewer_colours_tell_the_relations_apart(eyes: str) -> None:
    """By ten units of CIE L*a*b*; one or two are just noticeable."""
    seen = {
        name: _lab(np.array(SEEN_BY[eyes]) @ _linear(colour))
        for name, colour in parts.RELATIONS.items()
    }
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(seen, 2)}
    assert min(apart.values()) > 10, apart


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
def test_relations_stand_out_from_both_grounds(page: str) -> None:
    """By 3 to 1, as WCAG 2.2 asks of what is not text."""
    weights = [0.2126, 0.7152, 0.0722]
    ground = weights @ _linear(page)
    for name, colour in parts.RELATIONS.items():
        light, dark = sorted((weights @ _linear(colour), ground), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, name


def test_relations_have_the_same_colour_in_prose() -> None:
    sheet = (STATIC / "book.css").read_text("utf-8")
    for name, colour in parts.RELATIONS.items():
        assert f".nbutils-relation.{name}::before {{ background: {colour}; }}" in sheet
