"""What a user is told to look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moses_integration import ReportRequest, write_report
from moses_integration.report.document import Alert, compile_report
from moses_integration.report.document import _alerts as alerts
from moses_integration.report.findings import UnknownOfSide
from moses_integration.report.history import Run, Tuning, Weight


@pytest.fixture(scope="module")
def report(table):
    pytest.importorskip("vl_convert")
    return compile_report(ReportRequest(str(table)))


def told(report, weights=(), tuning=None, **changes):
    found = replace(report.survey, **changes)
    return [(alert.section, alert.text) for alert in alerts(found, weights, tuning)]


def test_nothing_to_tell(report):
    (first, *_) = report.survey.correlations
    well = (replace(first, pearson=0.5),)
    fitting = (Weight("TM0 5", 0.1, "p(target | source)"), Weight("LM0", 0.5, None))
    assert told(report, fitting, correlations=well) == []


@pytest.mark.parametrize(
    ("changes", "section", "begins"),
    [
        ({"bad_lines": 3}, "summary", "3 lines are no entries"),
        ({"floored": 300}, "distribution", "98.7% of the entries stand at the floor"),
        (
            {"unknown": (UnknownOfSide("target", 100, 30, ()),)},
            "unknown",
            "30% of the target words are unknown",
        ),
    ],
)
def test_each_of_them(report, changes, section, begins):
    (first, *_) = report.survey.correlations
    well = (replace(first, pearson=0.5),)
    ((where, text),) = told(report, correlations=well, **changes)
    assert where == section
    assert text.startswith(begins)


def test_correlations(report):
    (first, *_) = report.survey.correlations
    for pearson, begins in ((None, "One of the two"), (-0.2, "The network contradicts")):
        ((where, text),) = told(report, correlations=(replace(first, pearson=pearson),))
        assert (where, text[: len(begins)]) == ("scores", begins)


def test_weights_of_new_columns(report):
    (first, *_) = report.survey.correlations
    well = (replace(first, pearson=0.5),)
    large = Weight("LM0", 0.5, None)

    def said(value: float) -> list[str]:
        column = Weight("TM0 5", value, "p(target | source)")
        return [text for _, text in told(report, (large, column), correlations=well)]

    assert said(0.1) == []
    assert said(0.01) == [
        "TM0 5 (p(target | source)) weighs less than 5% of the largest weight: it hardly decides."
    ]
    assert said(-0.3) == [
        "TM0 5 (p(target | source)) has a negative weight: what the network likes is punished."
    ]
    runs = tuple(
        Run(number, number, 50.0, (Weight("TM0 5", value, "p"), large))
        for number, value in ((1, 0.1), (2, -0.1))
    )
    assert told(report, (), Tuning(runs, ()), correlations=well) == [
        ("tuning", "The sign of TM0 5 differs between the runs.")
    ]


def test_from_python(table, tmp_path):
    pytest.importorskip("vl_convert")
    request = ReportRequest(str(table), output=str(tmp_path / "r.html"), sample=5)
    report, charts = write_report(request)
    assert len(report.survey.sample) == 5
    assert [chart.name for chart in charts] == ["scores", "distribution", "lengths"]
    assert isinstance(report.alerts, tuple)
    assert all(isinstance(alert, Alert) for alert in report.alerts)
    assert (tmp_path / "r.html").exists()
    assert (tmp_path / "r.json").exists()
