"""Embedding: a chart's specification as the HTML of a page.

A chart is compiled when the book is built, so the page needs no compiler and draws it at once. The
HTML also has a still picture of the chart, for print, for browsers without scripts, and until the
page's script has drawn the interactive chart. Heights are computed in advance, so nothing on the
page moves when a chart is drawn.
"""

import json
import re
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert

from nbutils.charts.parts import DRAWN_BY, WIDTH
from nbutils.charts.theme import INK
from nbutils.escaping import for_page
from nbutils.files import sha256
from nbutils.runs.source_code import module_digest

DIGITS = 6  # significant digits of the numbers in a page
WIDE, NARROW = 700, 330  # width of a column of text on a desktop and on a phone, in pixels
CONTROLS = {WIDE: 3, NARROW: 1}  # drop-downs per row
CONTROL, TOOLS = 42, 30  # height of a row of drop-downs, and of the tools below; as in book.css
ON_A_PHONE: dict[str, Any] = {
    "axis": {"labelFontSize": 11, "tickCount": 4, "labelLimit": 150},
    "legend": {
        "columns": 3,
        "titleOrient": "top",
        "labelFontSize": 11,
        "layout": {"top": {"anchor": "start", "direction": "vertical"}},
    },
    "title": {"fontSize": 13},
}
"""Changes to the configuration of a compiled chart on a narrow page."""


def compiled(spec: dict[str, Any]) -> dict[str, Any]:
    """A Vega-Lite specification as Vega, with numbers rounded to ``DIGITS`` significant digits."""
    vega = vl_convert.vegalite_to_vega(spec, vl_version=DRAWN_BY)
    rounded = json.loads(json.dumps(vega), parse_float=lambda x: float(f"{float(x):.{DIGITS}g}"))
    return dict(rounded)


def still(vega: dict[str, Any]) -> tuple[str, int]:
    """A still picture of a compiled chart, as SVG of width ``WIDE``, and its height in pixels."""
    width, _ = _size(vl_convert.vega_to_svg(vega))
    # Labels keep their width; the marks get the rest.
    svg = vl_convert.vega_to_svg(_widened(vega, WIDE - width))
    return svg, round(_size(svg)[1])


def height_on_a_phone(vega: dict[str, Any]) -> int:
    """The height of a chart on a phone, in pixels, if labels take about a third of its width."""
    narrow = _widened(vega, NARROW * 2 / 3 - WIDTH)
    narrow["config"] = merged(narrow.get("config", {}), ON_A_PHONE)
    return round(_size(vl_convert.vega_to_svg(narrow))[1])


def _size(svg: str) -> tuple[float, float]:
    """Width and height of an SVG picture, in pixels."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        raise ValueError(f"the picture has no viewBox from 0 0: {svg[:200]}")
    return float(box[1]), float(box[2])


def _widened(vega: dict[str, Any], by: float) -> dict[str, Any]:
    """A compiled chart whose views are ``by`` pixels wider.

    The width of all views is one number of the chart, or the value of one signal.
    """
    wider = deepcopy(vega)
    widths = [(signal, "value") for signal in wider.get("signals", ())
              if signal["name"] == "child_width"]  # fmt: skip
    for owner, key in [*widths, (wider, "width")]:
        if key in owner:
            owner[key] += by
    return wider


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Two nested dictionaries merged; values of ``extra`` replace those of ``base``."""
    result = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _with_theme_colours(text: str, quote: str) -> str:
    """Replace the colours of text and axes by variables of the page, which follow its theme."""
    for name, colour in INK.items():
        text = text.replace(
            f"{quote}{colour}{quote}", f"{quote}var(--nbutils-{name}, {colour}){quote}"
        )
    return text


def cached(spec: dict[str, Any], folder: Path) -> str:
    """The HTML of a chart by ``embed``, from a file in ``folder`` if the chart was made before."""
    content = json.dumps(spec) + module_digest("book.embed") + version("vl-convert-python")
    path = folder / f"{sha256(content)[:32]}.html"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(embed(spec), "utf-8")
        partial.replace(path)
    return path.read_text("utf-8")


def embed(spec: dict[str, Any]) -> str:
    """The HTML of a chart, which the page's script makes interactive; any text in it is escaped."""
    vega = compiled(spec)
    picture, height = still(vega)
    narrow_height = height_on_a_phone(vega)
    controls = sum("bind" in signal for signal in vega.get("signals", ()))
    height += -(-controls // CONTROLS[WIDE]) * CONTROL + TOOLS
    narrow_height += -(-controls // CONTROLS[NARROW]) * CONTROL + TOOLS
    vega["usermeta"] = {"narrow": ON_A_PHONE}
    description = for_page(spec.get("description", "An interactive chart."))
    data = json.dumps(vega, separators=(",", ":"), ensure_ascii=True)
    data = _with_theme_colours(data, '"').replace("<", "\\u003c")
    # Screen readers read the interactive chart, so the still picture has no labels for them. Its
    # ids must differ from those of other pictures in the page.
    mark = sha256(data)[:8]
    picture = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", _with_theme_colours(picture, '"'))
    picture = re.sub(r'(\bid="|url\(#)', rf"\g<1>still-{mark}-", picture)
    return (
        f'<div class="nbutils-chart" role="group" aria-label="{description}" '
        f'style="--tall: {height}px; --tall-narrow: {narrow_height}px">'
        f'<script type="application/json">{data}</script>'
        f'<div class="nbutils-still" aria-hidden="true">{picture}</div></div>'
    )
