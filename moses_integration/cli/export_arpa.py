"""The command export-arpa: a continuous-space language model as a file that Moses reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import click

from moses_integration.formats.ini_edits import START_WEIGHT, with_language_model
from moses_integration.formats.nbest import read_nbest
from moses_integration.system.check import IniTarget
from phrase_scorer.cli.options import (
    COUNT,
    SHARE,
    WEIGHT,
    Bounded,
    device_options,
    model_option,
    option,
    require_models,
    takes,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.language_model.arpa import Arpa, arpa_order, read_arpa, write_arpa
from phrase_scorer.runtime.console import note, progress_bar, say
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.output import STANDARD, OutputFile, real_path
from phrase_scorer.runtime.streams import refuse_pipes, require_readable


@dataclass(frozen=True)
class ExportRequest:
    """A network, the n-grams that it is to give probabilities to, and where all is written."""

    model_path: Path
    arpa: str  # has the n-grams
    output: str
    arithmetic: Arithmetic
    texts: tuple[str, ...] = ()  # for more n-grams
    nbest_lists: tuple[str, ...] = ()  # the same
    min_count: int = 1  # of an n-gram in texts and lists
    share: float = 1.0
    prune: float = 0.0
    moses_ini: str | None = None
    moses_ini_out: str | None = None
    start_weight: float = START_WEIGHT
    quiet: bool = False

    def __post_init__(self) -> None:
        more = (*self.texts, *self.nbest_lists)
        if self.moses_ini:
            refuse_pipes(self.arpa)  # read for its order, then whole
        if self.min_count > 1 and not more:
            raise UsageError("--min-count needs --text or --nbest")
        if self.output == STANDARD:
            raise UsageError("--output needs a file, not -: KenLM reads it by name")
        OutputFile(self.output, inputs=(self.arpa, *more, self.moses_ini))
        if bool(self.moses_ini) != bool(self.moses_ini_out):
            raise UsageError("--moses-ini and --moses-ini-out go together")
        self.target.check_out({"--arpa": self.arpa, "--output": self.output})
        require_readable(self.arpa, *more, self.moses_ini)
        require_models(self.model_path)

    @property
    def target(self) -> IniTarget:
        """The moses.ini that is to have the file, too."""
        return IniTarget(self.moses_ini, self.moses_ini_out)


@click.command("export-arpa", epilog="""\b
Examples:
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa \\
    --moses-ini moses.ini --moses-ini-out moses.cslm.ini
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa --share 0.5 \\
    --nbest val.nbest.gz --nbest test.nbest.gz
  phrase-scorer export-arpa --model cslm/ --arpa lm.arpa --output cslm.arpa.gz --prune 1e-8
""")  # fmt: skip
@model_option
@option("--arpa", required=True, metavar="FILE", help="The back-off model that has the n-grams.")
@option("-o", "--output", required=True, metavar="FILE", help="Where to write; gzip if named .gz.")
@option("--text", "texts", multiple=True, metavar="FILE", help="Tokenised text, for more n-grams.")
@option("--nbest", "nbest_lists", multiple=True, metavar="LIST",
        help="n-best list of Moses, for the n-grams of its hypotheses.")  # fmt: skip
@option("--min-count", type=COUNT, default=1, metavar="N",
        help="How often texts and lists together must have an n-gram.")  # fmt: skip
@option("--share", type=Bounded(float, 0, 1, above=True), default=1.0, metavar="X",
        help="The network's share in a mixture with the ARPA file's probabilities.")  # fmt: skip
@option(
    "--prune", type=SHARE, default=0.0, show_default=False, metavar="SHARE",
    help="Leave out n-grams whose loss raises perplexity by less (Stolcke 1998), say 1e-8.",
)  # fmt: skip
@option("--moses-ini", metavar="FILE", help="A moses.ini that is to have the file, too.")
@option("--moses-ini-out", metavar="FILE", help="Where to write the edited moses.ini.")
@option("--start-weight", type=WEIGHT, default=START_WEIGHT, metavar="X",
        help="Weight of the new KENLM feature, before tuning.")  # fmt: skip
@device_options
@takes(ExportRequest)
def export_arpa(request: ExportRequest) -> None:
    """Write a continuous-space language model as a back-off model, for any Moses and KenLM.

    The n-grams of an ARPA file get the network's probabilities, and back-off weights for which
    every context sums to one. The moses.ini gets one more KENLM line and its weight; tune it.

    What is not stored is backed off from, so the network is heard only at stored n-grams. Those of
    the n-best lists of a first decoding (--nbest) are the ones that the next decoding will ask for.
    """
    from phrase_scorer.language_model.export import export
    from phrase_scorer.language_model.model import LanguageModel

    request.arithmetic.use_threads()
    path, target = request.arpa, request.target
    if ini := target.read():
        place = str(real_path(request.output))
        ini = target.seen_from_out(ini)
        ini = with_language_model(ini, place, arpa_order(path), request.start_weight)
    model = LanguageModel.load(request.model_path, request.arithmetic.torch_device())
    given = _with_more_ngrams(read_arpa(path), request)
    total = sum(map(len, given.orders))
    with progress_bar("exporting", show=not request.quiet, total=total, unit=" n-grams") as bar:
        exported = export(
            model, given, share=request.share, prune=request.prune, progress=bar.update
        )
    write_arpa(exported, request.output)
    say(f"{request.output}: {sum(map(len, exported.orders)):,} of {total:,} n-grams")
    if ini and target.write(ini):
        say(f"{target.moses_ini_out}: one more KENLM; tune it")


def _with_more_ngrams(arpa: Arpa, request: ExportRequest) -> Arpa:
    """The same model with the n-grams of the texts and n-best lists that were named."""
    from phrase_scorer.language_model.export import grown
    from phrase_scorer.language_model.model import read_sentences

    texts, lists = request.texts, request.nbest_lists
    if not texts and not lists:
        return arpa
    hypotheses = (h.words for path in lists for group in read_nbest(path) for h in group)
    sentences = chain(chain.from_iterable(map(read_sentences, texts)), hypotheses)
    larger = grown(arpa, sentences, request.min_count)
    more = sum(map(len, larger.orders)) - sum(map(len, arpa.orders))
    note(f"{more:,} more n-grams, of {', '.join((*texts, *lists))}")
    return larger
