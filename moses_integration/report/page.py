"""The page: one HTML file that asks nothing of the net, drawn from a report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from moses_integration.report.charts import Chart, map_chart, region_charts, score_charts
from moses_integration.report.curves import speed_chart, training_charts, tuning_charts
from moses_integration.report.document import PageContent, compile_report
from moses_integration.report.request import ReportRequest
from phrase_scorer.runtime.output import OutputFile, make_new_folder, write_file
from phrase_scorer.runtime.report import write_json

PIXELS = 2  # of a PNG, for each of the page
HERE = Path(__file__).parent
# ln p of a word, from the likeliest: where the next colour of a strip begins.
SHADES = (-0.1, -0.5, -1.0, -2.0, -4.0)


def write_report(request: ReportRequest) -> tuple[PageContent, list[Chart]]:
    """Makes a report and writes it: the page, its numbers, and the figures that are wanted.

    Nothing is written before all of it is made; the page has its name last. What its parts raise
    passes through: a DataError for what is wrong in a file, or cannot be written.
    """
    # Opened first, so that a place that cannot be written to is told at once.
    with OutputFile(request.output, inputs=[request.table], compressed=False) as out:
        report = compile_report(request)
        charts = list(charts_of(report))
        content = page(report, charts)
        if request.figures:
            write_figures(charts, request.figures)
        write_json(request.json_output, report, indent=None)
        out.write(content)
    return report, charts


def charts_of(report: PageContent) -> Iterator[Chart]:
    """All charts that the report has something for."""
    yield from score_charts(report.survey, report.compared)
    if report.insight:
        for vectors in report.insight.maps:
            if vectors.points:
                yield map_chart(vectors)
                yield from region_charts(vectors)
    if report.training:
        yield from training_charts(report.training)
    if report.tuning and report.tuning.iterations:
        yield from tuning_charts(report.tuning)
    if report.rescoring and report.rescoring.speeds:
        yield speed_chart(report.rescoring.speeds)


def page(report: PageContent, charts: Sequence[Chart]) -> bytes:
    """The page as it is written; equal reports give equal bytes.

    Whatever stands in the table is text: jinja2 escapes it in HTML, and in the charts' JSON no `<`
    is left that could end a script.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"nats": nats, "shade": shade, "number": number}
    text = environment.get_template("page.html.jinja").render(
        report=report,
        found=report.survey,
        charts={chart.name: chart for chart in charts},
        specs=script_json({chart.name: chart.spec for chart in charts}),
        neighbours=script_json(_neighbours(report)),
        style=(HERE / "page.css").read_text("utf-8"),
        script=(HERE / "page.js").read_text("utf-8"),
        bundle=_bundle(),
    )
    return text.encode("utf-8", "backslashreplace")


def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    import vl_convert

    text: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its types want more
    return text.replace("</script", r"<\/script")


def script_json(content: object) -> str:
    """JSON that can stand within a script element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _neighbours(report: PageContent) -> dict[str, list[list[int]]]:
    """Of each map, for each point the places of those that are nearest in the full space."""
    maps = report.insight.maps if report.insight else ()
    return {each.name: [[*point.neighbours] for point in each.points] for each in maps}


def nats(log_prob: float) -> str:
    """An ln p with two digits, and no minus before what is rounded to zero."""
    return f"{round(log_prob, 2) + 0.0:.2f}"


def shade(log_prob: float) -> int:
    """The colour of a word in a strip, from 0, the likeliest."""
    return sum(log_prob < bound for bound in SHADES)


def number(value: float) -> str:
    """A score or count with four digits, as short as it goes."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.4g}"


def write_figures(charts: Sequence[Chart], folder: Path) -> None:
    """Writes each chart as SVG and PNG into a folder, which is new or empty."""
    import vl_convert

    make_new_folder(folder, "--figures")
    for chart in charts:
        spec = {"title": chart.title, "background": "white", **chart.spec}
        svg = vl_convert.vegalite_to_svg(spec)
        write_file(folder / f"{chart.name}.svg", svg.encode())
        write_file(folder / f"{chart.name}.png", vl_convert.vegalite_to_png(spec, scale=PIXELS))
