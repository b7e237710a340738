"""Embedding: a chart's specification made into what a page holds.

A chart is compiled when the book is built, so the page needs no compiler and draws at once. Beside
what the page's script makes live stands a still picture: for print, for a browser without scripts,
and for the moment before the script is there. The heights of both are known beforehand, so nothing
on the page moves when a chart is drawn.
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

DIGITS = 6  # significant ones that a page's numbers keep
WIDE, NARROW = 700, 330  # what a column of text offers on a desktop and on a phone, in pixels
CONTROLS = {WIDE: 3, NARROW: 1}  # drop-downs side by side
CONTROL, TOOLS = 42, 30  # height of a row of them, and of what stands below; as in book.css
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
"""What a narrow page changes in a compiled chart's configuration."""


def compiled(spec: dict[str, Any]) -> dict[str, Any]:
    """A Vega-Lite specification as Vega, its numbers rounded to what a chart can show."""
    vega = vl_convert.vegalite_to_vega(spec, vl_version=DRAWN_BY)
    short = json.loads(json.dumps(vega), parse_float=lambda x: float(f"{float(x):.{DIGITS}g}"))
    return dict(short)


def still(vega: dict[str, Any]) -> tuple[str, int]:
    """A still picture as wide as a desktop's column, as SVG, and its height in pixels."""
    drawn, _ = _size(vl_convert.vega_to_svg(vega))
    # Labels take what they need; the marks get the rest.
    svg = vl_convert.vega_to_svg(_widened(vega, WIDE - drawn))
    return svg, round(_size(svg)[1])


def tall_on_a_phone(vega: dict[str, Any]) -> int:
    """The height of a chart on a phone, in pixels; labels about as wide as a third of it."""
    narrow = _widened(vega, NARROW * 2 / 3 - WIDTH)
    narrow["config"] = merged(narrow.get("config", {}), ON_A_PHONE)
    return round(_size(vl_convert.vega_to_svg(narrow))[1])


def _size(svg: str) -> tuple[float, float]:
    """Width and height of a drawing."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        raise ValueError(f"a drawing without a size: {svg[:200]}")
    return float(box[1]), float(box[2])


def _widened(vega: dict[str, Any], by: float) -> dict[str, Any]:
    """A compiled chart with wider views; one number, or one signal, holds the width of all."""
    wider = deepcopy(vega)
    holders = [(signal, "value") for signal in wider.get("signals", ())
               if signal["name"] == "child_width"]  # fmt: skip
    for holder, key in [*holders, (wider, "width")]:
        if key in holder:
            holder[key] += by
    return wider


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as one; the second wins."""
    joint = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(joint.get(key), dict)
        joint[key] = merged(joint[key], value) if both else value
    return joint


def _inked(text: str, quote: str) -> str:
    """The colours of text and axes as the page's own, so that they follow its theme."""
    for name, colour in INK.items():
        text = text.replace(
            f"{quote}{colour}{quote}", f"{quote}var(--nbutils-{name}, {colour}){quote}"
        )
    return text


def cached(spec: dict[str, Any], folder: Path) -> str:
    """The HTML of a chart out of ``folder``, where ``embed`` wrote it if it was made before."""
    made_of = json.dumps(spec) + module_digest("book.embed") + version("vl-convert-python")
    path = folder / f"{sha256(made_of)[:32]}.html"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(embed(spec), "utf-8")
        partial.replace(path)
    return path.read_text("utf-8")


def embed(spec: dict[str, Any]) -> str:
    """The HTML of a chart, which the book's own script makes live; safe for any text inside."""
    vega = compiled(spec)
    picture, tall = still(vega)
    tall_narrow = tall_on_a_phone(vega)
    bound = sum("bind" in signal for signal in vega.get("signals", ()))
    tall += -(-bound // CONTROLS[WIDE]) * CONTROL + TOOLS
    tall_narrow += -(-bound // CONTROLS[NARROW]) * CONTROL + TOOLS
    vega["usermeta"] = {"narrow": ON_A_PHONE}
    described = for_page(spec.get("description", "An interactive chart."))
    data = json.dumps(vega, separators=(",", ":"), ensure_ascii=True)
    data = _inked(data, '"').replace("<", "\\u003c")
    # The live chart speaks to screen readers; of the still one only the picture is wanted. Its
    # names must not meet those of another picture in the page.
    mark = sha256(data)[:8]
    picture = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", _inked(picture, '"'))
    picture = re.sub(r'(\bid="|url\(#)', rf"\g<1>still-{mark}-", picture)
    return (
        f'<div class="nbutils-chart" role="group" aria-label="{described}" '
        f'style="--tall: {tall}px; --tall-narrow: {tall_narrow}px">'
        f'<script type="application/json">{data}</script>'
        f'<div class="nbutils-still" aria-hidden="true">{picture}</div></div>'
    )
