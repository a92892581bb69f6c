"""The command experiment run (or table1): every step from phrase table to BLEU, with real Moses."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from moses_integration.cli.options import FILE, moses_options
from moses_integration.decoder.programs import Moses
from moses_integration.experiment.config import Experiment
from moses_integration.experiment.plan import Plan
from moses_integration.experiment.report import collect, table1_markdown, write_table1
from moses_integration.experiment.runner import Runner
from phrase_scorer.cli.options import CORES, option, takes
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import note
from phrase_scorer.runtime.figures import require_matplotlib
from phrase_scorer.runtime.output import locked_folder


@dataclass(frozen=True)
class ExperimentRequest:
    """Which experiment to do, and where."""

    config: Path
    output_dir: Path
    jobs: int
    dry_run: bool
    moses_bin: str | None
    moses_scripts: str | None

    @property
    def moses_words(self) -> list[str]:
        """The options that say where Moses is, as they were given."""
        given = {"--moses-bin": self.moses_bin, "--moses-scripts": self.moses_scripts}
        return [word for option, value in given.items() if value for word in (option, value)]


@click.command("run", epilog="""\b
Examples:
  phrase-scorer experiment run --config experiment.toml --output-dir experiment/
  phrase-scorer experiment run --config experiment.toml --output-dir experiment/ --dry-run

\b
experiment.toml (paths are relative to its folder):
  moses_ini = "moses.ini"
  threads = 2
  [tuning]
  name = "val"                  # in the reports
  source = "val.en"
  reference = "val.fr"
  runs = 3
  [[test]]
  name = "test2016"
  source = "test2016.en"
  reference = "test2016.fr"
  [[network]]
  name = "forward"
  pairs = "phrase-table.gz"
  options = ["--weight-by-count"]
  [[language_model]]
  name = "cslm"
  text = "corpus.fr"
  arpa = "lm.arpa"
  nbest_of = "Baseline"         # more n-grams: of the hypotheses of this system
  share = 0.5                   # of the network, in a mixture with the ARPA file
  [[system]]
  name = "Baseline"
  [[system]]
  name = "CSLM + RNN + WP"
  language_models = ["cslm"]
  models = ["forward"]          # also inverse_models, ensemble, weights
  unknown_words = true          # or unknown_words_of = "cslm"
  [reranking]                   # of all n-best lists that nbest_of asks for
  size = 200
  options = ["--optimizer", "mira"]
  [[system]]
  name = "+ CSLM itself in n-best lists"
  nbest_of = "CSLM + RNN + WP"
  language_models = ["cslm"]
""")  # fmt: skip
@option("--config", required=True, type=FILE, metavar="FILE",
        help="What to do: a TOML file.")  # fmt: skip
@option("--output-dir", required=True, type=FILE, metavar="DIR", help="Where "
        "everything is kept; table1.md, table1.json and table1.svg are the results.")  # fmt: skip
@option(
    "--jobs", type=CORES, default=1, show_default=True, metavar="N",
    help="Steps at the same time, each with the configuration's threads; with more than one,"
    " what they say is in DIR/logs.",
)  # fmt: skip
@option("--dry-run", is_flag=True, help="Only show the commands.")
@moses_options
@takes(ExperimentRequest)
def run_command(request: ExperimentRequest) -> None:
    """Train, rescore, tune several times, decode and evaluate every system of the configuration.

    The first [[system]] is the baseline. What is done is not done again; what a changed
    configuration touches is; other threads touch nothing. commands.log has every command as you
    would type it. `experiment table1` is the same: docs/table1.md is what it made of the paper's
    Table 1.
    """
    plan = Plan(Experiment.read(request.config), request.output_dir, request.moses_words)
    _check_commands(plan)
    if request.dry_run:
        for step in plan.steps:
            click.echo(f"phrase-scorer {shlex.join(step.arguments)}")
        return
    require_matplotlib()
    note(f"Moses {Moses(request.moses_bin, request.moses_scripts).version}")
    folder = request.output_dir
    with locked_folder(folder, "doing an experiment"):
        Runner(folder, note, request.jobs).do(plan.steps)
        results = collect(plan)
        paths = write_table1(results, folder)
    click.echo(table1_markdown(results))
    note(f"written: {', '.join(map(str, paths))}")


def _check_commands(plan: Plan) -> None:
    """Refuses, before hours of work, an option of the configuration that a command does not take.

    A UsageError names the step.
    """
    root = click.get_current_context().find_root().command
    for step in plan.steps:
        name, *words = step.arguments
        try:
            root.commands[name].make_context(name, words)  # type: ignore[attr-defined]
        except (click.ClickException, UsageError) as error:
            what = error.format_message() if isinstance(error, click.ClickException) else error
            raise UsageError(f"{step.name}: {what}") from error
