"""The charts as Vega-Lite writes them: drawn in the page, and by vl-convert into files.

Sizes are those of a desktop; the page's script scales them to the width that there is. Colours are
those of all our pictures, which the colour-blind tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moses_integration.formats.table_entries import Entry
from moses_integration.report.findings import Compared, Survey
from moses_integration.report.insight import VectorMap
from moses_integration.report.survey import LENGTHS
from moses_integration.report.tallies import BIN, COUNT_CLASSES, count_class, logarithms
from phrase_scorer.runtime.figures import PALETTE

Spec = dict[str, Any]  # Vega-Lite's own form
CHART_WIDTH = 620
HEIGHT = 460
MARGINAL = 60
NEW = PALETTE[1]
OLD = PALETTE[7]
FOUND = PALETTE[4]  # what a search has found


@dataclass(frozen=True)
class Chart:
    """One chart."""

    name: str  # of its file and its place in the page
    title: str
    description: str  # for those who do not see it
    spec: Spec


def quantitative(field: str, title: str, **more: Any) -> Spec:
    """A channel with numbers on an axis of that title."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def nominal(field: str, title: str | None, **more: Any) -> Spec:
    """A channel with names."""
    return {"field": field, "type": "nominal", "title": title, **more}


def tooltips(**fields: str) -> list[Spec]:
    """What hovering shows: fields, each with what it is called."""
    return [{"field": field, "title": title} for field, title in fields.items()]


TABLE_AXIS = "ln p of the table"
NETWORK_AXIS = "ln p of the network"


def score_charts(found: Survey, compared: Compared) -> Iterator[Chart]:
    """Those of the pass over the table."""
    yield _scatter(found, compared)
    yield _by_count(found)
    yield _by_length(found)


def _points(sample: Sequence[Entry], compared: Compared) -> list[Spec]:
    scores = np.array([entry.scores for entry in sample])
    x, y = (
        logarithms(scores[:, at]).round(3).tolist() for at in (compared.table, compared.network)
    )
    seen = np.array([entry.counts[2] if entry.counts else np.nan for entry in sample])
    classes = count_class(seen).tolist()
    counts = ["" if np.isnan(count) else f"{count:g}" for count in seen]
    return [
        {"s": e.source, "t": e.target, "x": a, "y": b, "k": COUNT_CLASSES[k], "n": n, "l": e.line}
        for e, a, b, k, n in zip(sample, x, y, classes, counts, strict=True)
    ]


def _colours(present: Sequence[str]) -> Spec:
    shades = [PALETTE[(0, 2, 4, 1, 7)[COUNT_CLASSES.index(name)]] for name in present]
    return {"domain": list(present), "range": shades}


def _present(found: Survey) -> list[str]:
    rows = zip(COUNT_CLASSES, found.by_count, strict=True)
    return [name for name, row in rows if any(row)]


def _scatter(found: Survey, compared: Compared) -> Chart:
    bins = _squares(found)
    low_x, low_y = (min((b[side] for b in bins), default=-1.0) for side in ("x2", "y2"))
    x = quantitative("x", TABLE_AXIS, scale={"domain": [low_x, 0], "nice": False})
    y = quantitative("y", NETWORK_AXIS, scale={"domain": [low_y, 0], "nice": False})
    shade = quantitative("n", "", scale={"type": "log", "range": [0.06, 0.6]}, legend=None)
    squares = {
        "data": {"values": bins},
        "mark": {"type": "rect", "color": OLD, "tooltip": None},
        "encoding": {
            "x": x,
            "x2": {"field": "x2"},
            "y": y,
            "y2": {"field": "y2"},
            "opacity": shade,
        },
    }
    colour = nominal(
        "k",
        "pair seen",
        scale=_colours(_present(found)),
        legend={"orient": "top", "symbolOpacity": 1},
    )
    picked = {"condition": {"param": "seen", "value": 0.6}, "value": 0.02}
    points = {
        "data": {"values": _points(found.sample, compared)},
        "params": [
            {"name": "seen", "select": {"type": "point", "fields": ["k"]}, "bind": "legend"},
            {"name": "brush", "select": "interval"},
        ],
        "mark": {"type": "circle", "size": 11, "aria": False},  # thousands of them
        "encoding": {
            "x": x, "y": y, "color": colour, "opacity": picked,
            "tooltip": tooltips(s="source", t="target", n="pair seen", x=TABLE_AXIS,
                                 y=NETWORK_AXIS, l="line"),
        },
    }  # fmt: skip
    least = max(low_x, low_y)
    diagonal = {
        "data": {"values": [{"x": least, "y": least, "to": 0}]},
        "mark": {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "x2": {"field": "to"}, "y2": {"field": "to"}},
    }
    plane = {"width": CHART_WIDTH, "height": HEIGHT, "layer": [squares, points, diagonal],
             "resolve": {"scale": {"opacity": "independent"}}}  # fmt: skip
    spec = {
        "spacing": 4,
        "vconcat": [
            _marginal(bins, "x", low_x),
            {"spacing": 4, "hconcat": [plane, _marginal(bins, "y", low_y)]},
        ],
    }
    told = (
        f"Scatter plot of {len(found.sample):,} entries: the table's ln p across, the network's "
        "upwards, coloured by how often the pair was seen. Grey squares: all entries."
    )
    return Chart("scores", "The score beside the table's own", told, spec)


def _squares(found: Survey) -> list[Spec]:
    return [
        {"x": -b.x * BIN, "x2": -(b.x + 1) * BIN, "y": -b.y * BIN, "y2": -(b.y + 1) * BIN,
         "n": b.entries}
        for b in found.bins
    ]  # fmt: skip


def _marginal(bins: Sequence[Spec], side: str, low: float) -> Spec:
    """A histogram of all entries along one axis of the plane."""
    sums: dict[float, int] = {}
    for each in bins:
        sums[each[side]] = sums.get(each[side], 0) + each["n"]
    values = [{"from": top, "to": top - BIN, "n": count} for top, count in sorted(sums.items())]
    along = quantitative("from", "", axis=None, scale={"domain": [low, 0], "nice": False})
    across = quantitative("n", "", axis=None)
    other = {"x": "y", "y": "x"}[side]
    width, height = (CHART_WIDTH, MARGINAL) if side == "x" else (MARGINAL, HEIGHT)
    return {
        "width": width, "height": height, "data": {"values": values},
        "mark": {"type": "rect", "color": OLD},
        "encoding": {
            side: along, f"{side}2": {"field": "to"}, other: across, f"{other}2": {"datum": 0},
            "tooltip": tooltips(**{"from": "up to (nats)", "n": "entries"}),
        },
        "view": {"stroke": None},
    }  # fmt: skip


def _by_count(found: Survey) -> Chart:
    values = [
        {"k": name, "from": -place * BIN, "to": -(place + 1) * BIN, "n": count, "order": number}
        for number, (name, row) in enumerate(zip(COUNT_CLASSES, found.by_count, strict=True))
        for place, count in enumerate(row)
        if count
    ]
    spec = {
        "width": CHART_WIDTH, "height": 220, "data": {"values": values},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": quantitative("to", NETWORK_AXIS, bin="binned", axis={"tickCount": 10}),
            "x2": {"field": "from"},
            "y": quantitative("n", "entries", stack="zero", axis={"format": "~s"}),
            "color": nominal("k", "pair seen", scale=_colours(_present(found)),
                              legend={"orient": "top"}),
            "order": {"field": "order"},
            "tooltip": tooltips(k="pair seen", **{"from": "up to (nats)", "n": "entries"}),
        },
    }  # fmt: skip
    told = f"Histogram of the network's ln p over all {found.entries:,} entries, in bins of {BIN}."
    return Chart("distribution", "How the network's scores are spread", told, spec)


def _by_length(found: Survey) -> Chart:
    values = []
    for words, row in enumerate(found.by_length):
        total = sum(row)
        name = f"{words} and more" if words == LENGTHS else f"{words}"
        values += [
            {"w": name, "to": -(place + 1) * BIN, "from": -place * BIN, "n": count,
             "share": round(count / total, 4)}
            for place, count in enumerate(row) if count
        ]  # fmt: skip
    spec = {
        "width": CHART_WIDTH, "height": {"step": 20}, "data": {"values": values},
        "mark": "rect",
        "encoding": {
            "x": quantitative("to", "ln p a symbol", bin="binned"),
            "x2": {"field": "from"},
            "y": {"field": "w", "type": "ordinal", "title": "target words", "sort": None},
            "color": quantitative("share", "share of the row", scale={"scheme": "blues"},
                                   legend={"orient": "top", "format": "%"}),
            "tooltip": tooltips(w="target words", n="entries", share="share of the row"),
        },
    }  # fmt: skip
    told = "For each length of the target, how the network's ln p a symbol is spread."
    return Chart("lengths", "ln p a symbol, by the length of the target", told, spec)


def _axis_free(low: float = -1.05, high: float = 1.05) -> Spec:
    return {"type": "quantitative", "axis": None, "scale": {"domain": [low, high], "nice": False}}


def map_chart(vectors: VectorMap) -> Chart:
    """All points of a map; the dense regions coloured and labelled."""
    names = [f"{number}: {region.label}" for number, region in enumerate(vectors.regions, 1)]
    values = [
        {"i": place, "t": point.text, "x": point.x, "y": point.y,
         "r": "elsewhere" if point.region is None else names[point.region]}
        for place, point in enumerate(vectors.points)
    ]  # fmt: skip
    labels = [
        {"t": f"{number}", "x": vectors.points[region.points[0]].x,
         "y": vectors.points[region.points[0]].y}
        for number, region in enumerate(vectors.regions, 1)
    ]  # fmt: skip
    shades = [PALETTE[(0, 1, 2, 3)[place % 4]] for place in range(len(names))]
    colour = nominal("r", None, legend=None,
                      scale={"domain": [*names, "elsewhere"], "range": [*shades, OLD]})  # fmt: skip
    where: Spec = {"x": {"field": "x", **_axis_free()}, "y": {"field": "y", **_axis_free()}}
    found = "query != '' && indexof(lower(datum.t), lower(query)) >= 0"
    points = {
        "data": {"values": values},
        "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
        "mark": {"type": "circle", "cursor": "pointer"},
        "encoding": {
            **where, "color": {**colour, "condition": {"test": found, "value": FOUND}},
            "size": {"condition": {"test": found, "value": 110}, "value": 16},
            "opacity": {"condition": {"test": f"query == '' || ({found})", "value": 0.7},
                        "value": 0.12},
            "tooltip": tooltips(t=vectors.name.removesuffix("s")),
        },
    }  # fmt: skip
    texts = {
        "data": {"values": labels},
        "mark": {"type": "text", "fontWeight": "bold", "fontSize": 20},
        "encoding": {**where, "text": {"field": "t"}},
    }
    spec = {
        "params": [{"name": "query", "value": ""}],
        "width": CHART_WIDTH, "height": 480, "layer": [points, texts],
    }  # fmt: skip
    told = (
        f"Map of {len(values):,} {vectors.name}, by {vectors.method}. Dense regions: "
        f"{'; '.join(names) or 'none'}."
    )
    return Chart(f"map-{vectors.name}", f"Map of {vectors.name}", told, spec)


def region_charts(vectors: VectorMap) -> Iterator[Chart]:
    """Each dense region, its points drawn as text, as the paper zooms in."""
    for number, region in enumerate(vectors.regions, 1):
        points = [vectors.points[place] for place in region.points]
        values = [{"t": p.text, "x": p.x, "y": p.y} for p in _apart(points)]
        spec = {
            "width": 300, "height": 240, "data": {"values": values},
            "mark": {"type": "text", "fontSize": 11},
            "view": {"stroke": PALETTE[(number - 1) % 4], "strokeWidth": 2},
            "encoding": {
                axis: {"field": axis, "type": "quantitative", "axis": None,
                       "scale": {"zero": False, "padding": 40}}
                for axis in ("x", "y")
            } | {"text": {"field": "t"}},
        }  # fmt: skip
        told = f"Region of {vectors.name}: {', '.join(value['t'] for value in values)}."
        yield Chart(f"region-{vectors.name}-{number}", region.label, told, spec)


def _apart(points: Sequence[Any]) -> list[Any]:
    """Those of a region, the middle first, whose texts do not lie on one another when drawn."""
    span_x, span_y = (
        max(max(getattr(p, axis) for p in points) - min(getattr(p, axis) for p in points), 1e-9)
        for axis in ("x", "y")
    )
    drawn: list[Any] = []
    for point in points:
        clear = all(
            abs(point.y - other.y) / span_y > 0.07
            or abs(point.x - other.x) / span_x > (len(point.text) + len(other.text)) * 0.0155
            for other in drawn
        )
        if clear:
            drawn.append(point)
    return drawn
