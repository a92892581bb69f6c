"""The command that shows what a network did to a phrase table: report."""

from __future__ import annotations

import click

from moses_integration.cli.options import FILE
from moses_integration.report.request import ReportRequest
from phrase_scorer.cli.options import (
    COUNT,
    answer,
    option,
    require_models,
    seed_option,
    statistics_option,
    takes,
)
from phrase_scorer.runtime.console import say


@click.command("report", epilog="""\b
Examples:
  phrase-scorer report phrase-table.rnn.gz --model rnn/
  phrase-scorer report phrase-table.rnn.gz --model rnn/ --tuning tuned/ --output rnn.html
  phrase-scorer report phrase-table.rnn.gz --model rnn/ --figures figures/ --sample 5000
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE")
@option("--model", type=FILE, metavar="DIR", help="The model that the column comes from: what it "
        "says itself, its words, maps and training.")  # fmt: skip
@option("--moses-ini", metavar="FILE", help="Show the weights of this moses.ini.  [default: that "
        "of --tuning]")  # fmt: skip
@option("--tuning", type=FILE, metavar="DIR", help="Show the runs in this folder of `tune`.")
@option("--log", type=FILE, metavar="FILE", help="Show how fast the table was made: the log of "
        "`rescore --log`.")  # fmt: skip
@option("--output", default="report.html", metavar="FILE", help="Where to write the page; its "
        "numbers go beside it, to a name in .json.")  # fmt: skip
@option("--figures", type=FILE, metavar="DIR", help="Write each chart as SVG and PNG, too, into "
        "this folder, which is new or empty.")  # fmt: skip
@option("--against", type=COUNT, metavar="N", help="Number of the table's own score to compare "
        "with.  [default: p(e|f) in Moses' order, 3]")  # fmt: skip
@option("--sample", type=COUNT, default=20_000, metavar="N", help="Entries drawn at random for the "
        "scatter plot.")  # fmt: skip
@option("--no-maps", "maps", is_flag=True, callback=lambda *given: not given[-1],
        help="Leave out the maps of words and phrases.")  # fmt: skip
@seed_option
@statistics_option
@takes(ReportRequest)
def report_command(request: ReportRequest) -> None:
    """Show what the network did to PHRASE_TABLE, which `rescore` wrote, on one page.

    The page is one HTML file that needs neither server nor network: the new score beside the
    table's own, where they disagree, best targets by either; with --model also what the network
    says itself, its ln p word by word, maps of words and phrases, its training; with --tuning the
    weights and BLEU of each run; with --log how fast the table was made. Equal input gives equal
    bytes.
    """
    require_models(*([request.model] if request.model else []))
    from moses_integration.report.page import write_report

    report, charts = write_report(request)
    found = report.survey
    say(f"{request.output}: {found.entries:,} entries of {request.table}, {len(charts)} charts")
    answer({"output": request.output, "numbers": request.json_output, "entries": found.entries,
            "charts": [chart.name for chart in charts]})  # fmt: skip
