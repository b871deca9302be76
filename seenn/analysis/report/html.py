"""Pages as one HTML file that needs nothing else: no network, no file beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.figures import INK

#: Marks of matplotlib as plotly calls them.
_MARKERS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross",
            "p": "pentagon", "h": "hexagon", "8": "octagon", "X": "x", "*": "star"}  # fmt: skip


def render(pages: Sequence[Mapping[str, Any]], *folders: Path) -> str:
    """The document; pictures are read from the first of ``folders`` that has them, and become part of it.

    Raises:
        OSError: a picture is missing.
    """

    def picture(name: str) -> str:
        found = [path for folder in folders if (path := folder / Path(name).name).exists()]
        return _picture(found[0] if found else folders[-1] / Path(name).name)

    page: str = _template().render(pages=pages, picture=picture, plotly=_plotly, ink=INK)
    return page


def shown_chart(chart: Chart) -> dict[str, Any]:
    """The chart's title and its figure as plotly's JSON."""
    layout: dict[str, Any] = {
        "grid": {"rows": 1, "columns": len(chart.panels)},
        "yaxis": {"title": {"text": _text(chart.ylabel)}, "type": "log" if chart.log_y else "linear"},
        "bargap": 0.2,
    }
    if chart.ylim is not None:
        layout["yaxis"]["range"] = list(chart.ylim)
    traces: list[dict[str, Any]] = []
    for number, panel in enumerate(chart.panels, start=1):
        axis = "" if number == 1 else str(number)
        layout[f"xaxis{axis}"] = {"title": {"text": _text(panel.xlabel)}, "type": "log" if panel.log_x else "linear"}
        if panel.ticks and len(panel.ticks) <= 16:
            layout[f"xaxis{axis}"] |= {"tickvals": list(panel.ticks), "ticktext": [f"{t:g}" for t in panel.ticks]}
        traces += [{**trace, "xaxis": f"x{axis}", "yaxis": "y"} for trace in _traces(panel)]
    return {"title": chart.title, "subtitle": chart.subtitle, "figure": {"data": traces, "layout": layout}}


def _traces(panel: Panel) -> Iterator[dict[str, Any]]:
    drawn = [series for series in panel.series if series.style not in ("vertical", "horizontal")]
    extent = {axis: _extent([v for s in drawn for v in _values(s, axis)]) for axis in "xy"}
    for s in panel.series:
        own = {"name": _text(s.name), "showlegend": bool(s.name), "legendgroup": s.name or None}
        line = {"color": s.color, "width": 1 if s.faint else 2, "dash": "dash" if s.dashed else "solid"}
        if s.style == "band":
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": list(s.x)}
            yield {**edge, "y": list(s.low), "showlegend": False}
            yield {**own, **edge, "y": list(s.high), "fill": "tonexty", "fillcolor": f"{s.color}26"}
        elif s.style == "bars":
            yield {**own, "type": "bar", "x": list(s.x), "y": list(s.y), "text": [*map(_text, s.texts)],
                   "textposition": "outside", "marker": {"color": s.color}}  # fmt: skip
        elif s.style == "vertical":
            yield {**own, "mode": "lines", "x": [s.x[0]] * 2, "y": list(extent["y"]), "line": line}
        elif s.style == "horizontal":
            yield {**own, "mode": "lines", "x": list(extent["x"]), "y": [s.y[0]] * 2, "line": line}
        else:
            modes = ["lines"] * (s.style == "line") + ["markers"] * bool(s.marker) + ["text"] * bool(s.texts)
            symbol = _MARKERS.get(s.marker, "circle") + ("-open" if s.hollow else "")
            trace = {**own, "mode": "+".join(modes) or "lines", "x": list(s.x), "y": list(s.y), "line": line,
                     "marker": {"symbol": symbol, "color": s.color, "size": 14 if s.marker == "*" else 8},
                     "opacity": 0.6 if s.faint else 1}  # fmt: skip
            if s.texts:
                trace |= {"text": [*map(_text, s.texts)], "textposition": "top right"}
            if s.low:
                above = [high - y for high, y in zip(s.high, s.y, strict=True)]
                below = [y - low for low, y in zip(s.low, s.y, strict=True)]
                trace["error_y"] = {"array": above, "arrayminus": below, "symmetric": False, "color": s.color}
            yield trace


def _values(s: Series, axis: str) -> list[float]:
    return list(s.x) if axis == "x" else [*s.y, *s.low, *s.high] + ([0.0] if s.style == "bars" else [])


def _extent(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _text(text: str) -> str:
    """Plotly shows some HTML in texts, and entities as what they stand for."""
    return html.escape(text, quote=False)


def _picture(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source.replace("</script", "<\\/script")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files(__package__) / "report.html.j2").read_text(encoding="utf-8"))
