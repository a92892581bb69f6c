"""The command train, and what it shares with train-lm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from typing_extensions import override

from phrase_scorer.cli.options import (
    COUNT,
    COUNT_OR_NONE,
    MINUTES,
    POSITIVE,
    SHARE,
    WEIGHT,
    WORDS,
    Bounded,
    Command,
    SectionedCommand,
    any_table_option,
    device_options,
    model_option,
    option,
    seed_option,
    takes,
    together,
)
from phrase_scorer.errors import UsageError, quoted
from phrase_scorer.runtime.console import SIGNAL_EXIT_CODES, note, say
from phrase_scorer.text.pair_files import PairReader
from phrase_scorer.training.request import SHORTLIST, TrainRequest
from phrase_scorer.training.settings import PRESET_NAMES

if TYPE_CHECKING:
    from phrase_scorer.training.job import TrainingResult


PRESET = click.Choice(PRESET_NAMES)


class Shares(click.ParamType):  # type: ignore[type-arg]  # some versions are not generic
    """Numbers above 0 with commas between them."""

    name = "shares"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return tuple(POSITIVE.convert(part, param, ctx) for part in value.split(","))
        except UsageError:
            example = "numbers above 0 with commas between, such as 3,1"
            raise UsageError(f"--mix must be {example}, not {quoted(value)}") from None


shortlist_option = option(
    "--shortlist", type=WORDS, metavar="N", help="Most frequent words that the model knows (of "
    f"each side), <unk> included.  [default: {SHORTLIST}]",
)  # fmt: skip


def tell_result(result: TrainingResult) -> int:
    """Says how a training ended; the exit code."""
    progress = result.progress
    best = "no validation pairs"
    if result.validated:
        loss, update = progress.best_loss, progress.best_update
        best = f"best validation {loss:.4f} nats a target symbol (update {update})"
    say(
        f"stopped by {result.stopped} after {progress.update} updates, "
        f"{progress.seconds / 60:.1f} minutes; {best}"
    )
    if result.stopped in SIGNAL_EXIT_CODES:
        say("the state is saved; --resume continues")
    return SIGNAL_EXIT_CODES.get(result.stopped, 0)


def _chosen(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """What was chosen; "auto" is what all presets have."""
    return None if value == "auto" else value


def preset_option(
    name: str, text: str, kind: click.ParamType[Any] = COUNT, metavar: str | None = "N"
) -> Callable[[Command], Command]:
    """An option whose default the preset decides."""
    return option(name, type=kind, metavar=metavar, help=f"{text}  [default: preset's]")


# Where the model goes, its preset, its words.
model_options = together(
    model_option,
    option("--preset", type=PRESET, help="Sizes and training settings: small and base for CPUs; "
           "paper as in Cho et al. 2014; large, of the same sizes, trained as the small ones are.  "
           "[default: small]"),
    option("--from", "start", type=click.Path(path_type=Path), metavar="DIR", help="Begin with the "
           "weights and words of the model in DIR, whose sizes and direction stay; the schedule "
           "starts anew, by default with a quarter of the preset's learning rate."),
    shortlist_option,
)  # fmt: skip
# How long it is trained, when it is saved, where it is computed.
training_options = together(
    preset_option("--max-updates", "Updates in all."),
    option("--max-minutes", type=MINUTES, metavar="M", help="Stop after this many minutes. Where "
           "neither --schedule nor --max-updates is given, the learning rate falls to 0 then, so "
           "that the best comes out that this time can make."),
    preset_option("--optimizer", "Algorithm of the updates.",
                  click.Choice(["adamw", "adadelta"]), None),
    preset_option("--learning-rate", "Highest learning rate.", POSITIVE, "X"),
    option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), callback=_chosen,
           help="Numbers of the products in training; weights and states stay float32. auto: "
           "bfloat16 where a few updates at the start are faster so; name one for two trainings "
           "that are to be the same.  [default: auto]"),
    option("--softmax", type=click.Choice(["full", "sampled"]), help="Words over which training "
           "normalises: all, or the batch's and about 1,024 at random, but for its last quarter. "
           "Validation is over all.  [default: sampled; of preset paper, and below 4,000 words: "
           "full]"),
    option("--label-smoothing", type=SHARE, metavar="E", help="Share of what is learned that is "
           "spread over all words, say 0.1.  [default: 0]"),
    option("--average-updates", "averaged", type=COUNT_OR_NONE, metavar="N",
           help="Validate and keep a running mean of the weights over about the last N updates; "
           "0: the latest alone.  [default: 200; of preset paper: 0]"),
    option("--validate-every", type=COUNT, metavar="N", help="Updates between two validations."),
    option("--patience", type=COUNT_OR_NONE, metavar="N",
           help="Stop after this many validations without improvement."),
    seed_option,
    option("--checkpoint-minutes", type=Bounded(float, 0, 1e9), default=10.0, metavar="M",
           help="Save the state this often; also at Ctrl-C and SIGTERM."),
    option("--resume", is_flag=True, help="Continue a training that was stopped, or go on past "
           "its end with more --max-updates or --max-minutes; what is not given stays as it was."),
    option("--overwrite", is_flag=True, help="Replace the model that is there."),
    option("--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Write losses, "
           "gradient norm and learning rate as TensorBoard events, too (package tensorboard)."),
    device_options,
)  # fmt: skip


# Of train and train-lm alike.
TRAINING_HEADINGS = {
    "Model": "model_path start preset architecture cell forget_bias dropout positions hidden "
             "embedding layers heads feed_forward direction variant second_hidden order "
             "short_histories",
    "Data": "also mix shortlist shared_words any_table with_counts validation validation_pairs "
            "hold_out min_count",
    "Training": "batch_pairs max_updates max_minutes optimizer learning_rate schedule "
                "softmax label_smoothing averaged precision initial_deviation validate_every "
                "patience seed",
}  # fmt: skip


@click.command("train", cls=SectionedCommand, headings=TRAINING_HEADINGS, epilog="""\b
Examples:
  phrase-scorer train model/phrase-table.gz --model rnn/
  phrase-scorer train model/phrase-table.gz --model rnn/ --preset paper --device cuda
  phrase-scorer train pairs.tsv --model rnn/ --max-minutes 30
  phrase-scorer train corpus.en.gz corpus.fr.gz --model att/ --architecture attention
  phrase-scorer train model/phrase-table.gz --model lstm/ --cell lstm --forget-bias 1
  phrase-scorer train model/phrase-table.gz --model rnn/ --resume
  phrase-scorer train news.tsv --model news/ --from rnn/ --max-minutes 5
  phrase-scorer train news.tsv --also model/phrase-table.gz --mix 1,3 --model both/
""")  # fmt: skip
@click.argument("paths", metavar="PHRASE_TABLE | PAIRS | SOURCES TARGETS", nargs=-1, required=True)
@model_options
@option("--also", multiple=True, metavar="FILE",
        help="One more phrase table or file of pairs; as many as are needed.")  # fmt: skip
@option("--mix", type=Shares(), metavar="A,B,…", help="Shares of the files in what is seen in "
        "training, the first and each --also, say 3,1.  "
        "[default: each distinct pair once]")  # fmt: skip
@option("--architecture", metavar="NAME", help="encoder_decoder (Cho et "
        "al. 2014), seq2seq (Sutskever et al. 2014), attention (Bahdanau et al. 2015), "
        "transformer, decoder_only, masked (a pseudo-probability).  "
        "[default: encoder_decoder]")  # fmt: skip
@option("--cell", metavar="NAME",
        help="Recurrent cell: rnn, lstm or gru.  [default: gru; of seq2seq: lstm]")  # fmt: skip
@option("--forget-bias", type=WEIGHT, metavar="B", help="Where an LSTM's forget gates start; "
        "1 remembers from the start.  [default: 0]")  # fmt: skip
@option("--dropout", type=SHARE, metavar="P", help="Share of units left out in training, "
        "say 0.3 for small data.  [default: 0]")  # fmt: skip
@option("--positions", type=click.Choice(["sinusoidal", "learned"]),
        help="What a Transformer adds to its embeddings.  [default: sinusoidal]")  # fmt: skip
@preset_option("--hidden", "Units of each cell; width of a Transformer.")
@preset_option("--embedding", "Width of the embeddings of recurrent models.")
@preset_option("--layers", "Layers of seq2seq and the Transformers.")
@preset_option("--heads", "Heads of a Transformer's attention.")
@preset_option("--feed-forward", "Units inside a Transformer's blocks.")
@option("--direction", type=click.Choice(["forward", "inverse"]),
        help="forward: p(target | source); inverse: p(source | target).  "
        "[default: forward]")  # fmt: skip
@option("--variant", type=click.Choice(["paper", "groundhog"]), help="Form of "
        "encoder_decoder: as printed, or as in the authors' released code.  "
        "[default: paper]")  # fmt: skip
@option("--shared-words", is_flag=True, help="One shortlist, one embedding for both languages.")
@any_table_option
@option("--weight-by-count/--every-pair-once", "with_counts", default=None, help="Weigh pairs by "
        "their counts in a phrase table, or each distinct pair alike.  [default: by counts, where "
        "there are any; with --also, and of preset paper: once]")  # fmt: skip
@preset_option("--batch-pairs", "Pairs per update.")
@preset_option("--schedule", "Course of the learning rate; timed: it falls to 0 at --max-minutes.",
               click.Choice(["constant", "linear", "inverse-sqrt", "timed"]), None)  # fmt: skip
@option(
    "--validation-pairs", type=COUNT_OR_NONE, metavar="N", help="About how many pairs to hold out."
)
@option("--hold-out", type=click.Choice(["sources", "trigrams"]), help="What pairs held out have "
        "that those of training lack: their source phrases, or trigrams of these, as text far "
        "from the training text has.  [default: sources]")  # fmt: skip
@training_options
@click.pass_obj
@takes(TrainRequest)
def train_command(read: PairReader, request: TrainRequest) -> int:
    """Train a model on phrase pairs: a phrase table, lines of pairs, or two files side by side.

    A line of PAIRS is "source<TAB>target" or "source ||| target"; line n of SOURCES belongs to line
    n of TARGETS. All may be compressed (gz, bz2, xz, zst); - is standard input.

    Pairs of a phrase table weigh by their counts; all others, and those of several files, count
    once each, whatever their frequency, and whichever files they are in; with --mix, once in each
    of them. Pairs of some source phrases are held out for validation. The unit of all losses is
    nats per target symbol, end symbols included.
    """
    from phrase_scorer.kernels.library import kernels_in_words

    plan = request.plan()
    request.arithmetic.use_threads()
    device = request.arithmetic.torch_device()
    data = request.read_with(read, plan)
    source, target = map(len, data.vocabularies)
    weighed = "" if data.pairs.weights is None else ", weighed by their counts"
    note(
        f"{len(data.pairs):,} pairs{weighed}; {source:,} source and {target:,} target words in the "
        f"shortlists; device {device}; kernels: {kernels_in_words(device.type)}"
    )
    if data.mix:
        counts = np.bincount(data.pairs.file_numbers).tolist()
        shown = (
            f"{file.share:.1%} {file.path} ({n:,})"
            for file, n in zip(data.mix, counts, strict=True)
        )
        note(f"mixed: {', '.join(shown)}")
    return tell_result(request.run(data, plan))
