"""The charts of training, tuning and rescoring, over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moses_integration.report.charts import (
    CHART_WIDTH,
    NEW,
    OLD,
    Chart,
    nominal,
    quantitative,
    tooltips,
)
from moses_integration.report.history import Speed, TrainingPoint, Tuning
from phrase_scorer.runtime.figures import PALETTE


def training_charts(points: Sequence[TrainingPoint]) -> Iterator[Chart]:
    """Losses by update and by minute; learning rate and gradient norm."""
    losses = [
        {"update": p.update, "minutes": p.minutes, "kind": kind, "loss": value}
        for p in points
        for kind, value in (("training", p.train_loss), ("validation", p.validation_loss))
        if value is not None
    ]
    shades = {"domain": ["training", "validation"], "range": [OLD, NEW]}
    for axis, title in (("update", "update"), ("minutes", "minutes")):
        spec = {
            "width": CHART_WIDTH, "height": 240, "data": {"values": losses},
            "mark": {"type": "line", "point": {"size": 18}},
            "encoding": {
                "x": quantitative(axis, title),
                "y": quantitative("loss", "nats a symbol", scale={"type": "log", "nice": False}),
                "color": nominal("kind", None, scale=shades, legend={"orient": "top"}),
                "tooltip": tooltips(kind="loss", update="update", minutes="minutes",
                                     loss="nats a symbol"),
            },
        }  # fmt: skip
        told = f"Training and validation loss by {title}."
        yield Chart(f"training-{axis}", f"Loss by {title}", told, spec)
    rates = [
        {"update": p.update, "kind": kind, "value": value}
        for p in points
        for kind, value in (("learning rate", p.learning_rate), ("gradient norm", p.gradient_norm))
        if value
    ]
    spec = {
        "data": {"values": rates}, "facet": {"field": "kind", "title": None}, "columns": 2,
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": 270, "height": 150, "mark": {"type": "line", "color": PALETTE[0]},
            "encoding": {
                "x": quantitative("update", "update", axis={"tickCount": 4}),
                "y": quantitative("value", ""),
            },
        },
    }  # fmt: skip
    yield Chart("training-rates", "Learning rate and gradient norm",
                "Learning rate, and norm of the gradient, by update.", spec)  # fmt: skip


def tuning_charts(tuning: Tuning) -> Iterator[Chart]:
    """BLEU and weights by iteration."""
    bleu = [
        {"run": f"run {i.run}", "iteration": i.iteration, "bleu": round(i.bleu, 4)}
        for i in tuning.iterations
    ]
    steps = quantitative("iteration", "iteration", axis={"tickMinStep": 1, "format": "d"})
    spec = {
        "width": CHART_WIDTH, "height": 220, "data": {"values": bleu},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": steps,
            "y": quantitative("bleu", "BLEU on its n-best lists", scale={"zero": False}),
            "color": nominal("run", None, scale={"range": list(PALETTE[:6])},
                              legend={"orient": "top"}),
            "strokeDash": nominal("run", None),
            "tooltip": tooltips(run="run", iteration="iteration", bleu="BLEU"),
        },
    }  # fmt: skip
    told = "BLEU on the n-best lists of the tuning set, by iteration and run."
    yield Chart("tuning-bleu", "BLEU by iteration", told, spec)
    kinds = "other weight", "new column"
    weights = [
        {"w": weight.name, "run": i.run, "iteration": i.iteration, "value": weight.value,
         "line": f"{weight.name}, run {i.run}", "k": kinds[weight.column is not None]}
        for i in tuning.iterations for weight in i.weights
    ]  # fmt: skip
    if not weights:
        return
    shades = {"domain": list(kinds), "range": [OLD, NEW]}
    spec = {
        "width": CHART_WIDTH, "height": 300, "data": {"values": weights},
        "mark": {"type": "line", "point": {"size": 22}, "opacity": 0.8},
        "encoding": {
            "x": steps,
            "y": quantitative("value", "weight"),
            "detail": {"field": "line"},
            "color": nominal("k", None, scale=shades, legend={"orient": "top"}),
            "tooltip": tooltips(w="weight", run="run", iteration="iteration", value="value"),
        },
    }  # fmt: skip
    told = "Each weight by iteration, a line for each run; those of new columns stand out."
    yield Chart("tuning-weights", "Weights by iteration", told, spec)


def speed_chart(speeds: Sequence[Speed]) -> Chart:
    """Entries written by minute: its slope is the speed."""
    values = [
        {"minutes": s.minutes, "entries": s.entries, "rate": f"{s.per_second:,.0f}"} for s in speeds
    ]
    spec = {
        "width": CHART_WIDTH, "height": 200, "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 18, "color": NEW}, "color": NEW},
        "encoding": {
            "x": quantitative("minutes", "minutes"),
            "y": quantitative("entries", "entries written"),
            "tooltip": tooltips(minutes="minutes", entries="written", rate="entries a second"),
        },
    }  # fmt: skip
    told = "Entries written by minute: the steeper, the faster."
    return Chart("rescoring-speed", "Entries written by minute", told, spec)
