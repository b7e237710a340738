"""Theme: how every chart of the book looks, as Vega-Lite's configuration."""

from typing import Any

INK = {"text": "#22262b", "muted": "#5b6470", "grid": "#e2e5e9", "page": "#fefefe"}
"""Colours of what is neither mark nor scale; on a page they follow its theme."""
BLUE, GREEN, ORANGE, GREY = "#1f82c0", "#009e73", "#dd6227", "#6c6c6c"
"""Self, lineage, cross-family and control wherever relations are drawn (and in ``book.css``)."""
VIOLET, GOLD = "#8a5cc2", "#b8860b"
STUDENTS = [VIOLET, GOLD, "#c2477f", "#4f8f9d", "#7a7a3a", "#a0522d"]
DIVERGING = {
    False: ("#e0954a", "#f6f4ef", "#58afca"),
    True: ("#a85a1c", "#2a3038", "#1d7d9b"),
}
"""Colours of a loss, of nothing and of a gain: on a light page, and on a dark one."""


def config() -> Any:
    """The configuration; its styles have names of ours, which Altair's types do not know."""
    names = {"ticks": False, "domain": False, "grid": False, "labelPadding": 6}
    style = {name: {"color": INK["text"]} for name in ("number", "whisker", "dot")}
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK["text"],
            "titleColor": INK["muted"],
            "gridColor": INK["grid"],
            "domainColor": INK["grid"],
            "tickColor": INK["grid"],
            "labelLimit": 220,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "labelFlush": False,
            "tickCount": 7,
        },
        "axisY": {"titleAnchor": "end"},
        "axisXBand": names,
        "axisYDiscrete": names,
        "legend": {
            "labelColor": INK["text"],
            "titleColor": INK["muted"],
            "symbolBaseFillColor": INK["text"],
            "symbolStrokeWidth": 2,
            "orient": "top",
            "titleOrient": "left",
            "columns": 6,
            "labelFontSize": 12,
            "symbolOpacity": 1,
        },
        "title": {
            "color": INK["text"],
            "anchor": "start",
            "fontSize": 14,
            "fontWeight": 600,
            "offset": 10,
        },
        "header": {"labelColor": INK["text"]},
        "range": {"category": STUDENTS},
        "style": style | {"muted": {"color": INK["muted"]}},
    }
