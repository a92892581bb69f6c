"""The commands over a trained model: score, info, generate, align; what scoring tells besides."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from phrase_scorer.cli.options import (
    COUNT,
    POSITIVE,
    SEED,
    any_table_option,
    device_options,
    format_option,
    max_unknown_option,
    model_option,
    option,
    output_option,
    pairs_argument,
    precision_option,
    require_models,
    takes,
)
from phrase_scorer.errors import DataError, UsageError, printable, require_at_least
from phrase_scorer.runtime.console import detail, note, say
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.figures import require_kind, require_matplotlib, save_picture
from phrase_scorer.runtime.output import STANDARD, OutputFile, check_option
from phrase_scorer.runtime.report import as_json
from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.scoring.score_file import (
    ScoreColumn,
    ScoreFormat,
    ScoreRequest,
    load_score_columns,
    write_scores,
)
from phrase_scorer.text.pair_files import PairFiles, PairReader
from phrase_scorer.text.phrase_pairs import PairBlock, words_of
from phrase_scorer.text.unknown_words import UnknownWordCheck
from phrase_scorer.text.vocabulary import UNKNOWN, Vocabulary

if TYPE_CHECKING:
    from phrase_scorer.scoring.generation import Generated, Generator
    from phrase_scorer.scoring.scorer import PhraseScorer


TELLING = 100  # pairs of a pipe that tell how many words are unknown; else all of them do


def _paths(_: click.Context, __: click.Parameter, models: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(map(Path, models))


@click.command(epilog="""\b
Examples:
  phrase-scorer score --model rnn/ pairs.tsv > scores.txt
  phrase-scorer score --model rnn/ source.txt.gz target.txt.gz --summary > scores.txt
  echo "the blue house ||| la maison bleue" | phrase-scorer score --model rnn/
  phrase-scorer score --model rnn/ --precision int8 phrase-table.gz > scores.txt
  phrase-scorer score --model rnn/ --model lstm/ --format jsonl --word-scores pairs.tsv
  phrase-scorer score --model rnn1/ --model rnn2/ --ensemble pairs.tsv
  phrase-scorer score --model rnn/ big.tsv.gz --output scores.gz --resume
""")  # fmt: skip
@pairs_argument
@option("--model", "models", multiple=True, required=True, metavar="DIR", callback=_paths,
        help="Directory of a trained model; each more is a column more.")  # fmt: skip
@output_option
@option("--format", "kind", type=click.Choice(get_args(ScoreFormat)), default="scores",
        help="Write scores alone, or source, target and scores: tab-separated, or as JSON objects.",
        )  # fmt: skip
@option("--word-scores", is_flag=True, help="Write ln p of each target word, too, and last of the "
        "end of the phrase.")  # fmt: skip
@option("--normalize", is_flag=True,
        help="Divide by the number of target symbols: the words and the end.")  # fmt: skip
@option("--ensemble", is_flag=True, help="Write one column: the mean of the models' probabilities.")
@option("--summary", is_flag=True, help="Say nats in all and per symbol, perplexity, and the share "
        "of unknown words at the end.")  # fmt: skip
@option("--on-bad-line", type=click.Choice(["stop", "keep"]), default="stop", help="keep: write "
        "nan for a line that is no pair, and score an empty source of pairs.")  # fmt: skip
@max_unknown_option
@any_table_option
@option("--resume", is_flag=True, help="Keep what is done if broken off, and go on with that.")
@precision_option
@device_options
@click.pass_obj
@takes(ScoreRequest)
def score(read: PairReader, request: ScoreRequest) -> None:
    """Score phrase pairs: one number per line, the natural logarithm of p(target | source).

    Reads lines "source<TAB>target" or "source ||| target", a phrase table (whose first two fields
    are scored), or two files, of which line n of SOURCES belongs to line n of TARGETS; compressed
    (gz, bz2, xz, zst) or not; without a file, standard input, of which each line is answered when
    it comes (but for --max-unknown, which waits for the first ones).

    The number is summed over the target's words and the end of the phrase, and not normalised for
    length unless --normalize is given. For a model of direction inverse it is ln p(source |
    target). Several models give as many numbers, with a tab between them.
    """
    require_models(*request.models)
    from phrase_scorer.scoring.scorer import blocks_of

    request.arithmetic.use_threads()
    columns = load_score_columns(request)
    scorers = [scorer for column in columns for scorer in column.scorers]
    from_pipe, to_terminal = STANDARD in request.pairs.paths, sys.stdout.isatty()
    at_once = from_pipe and request.max_unknown is None  # which looks at many pairs first
    shown = not request.quiet and not from_pipe and not (request.output == STANDARD and to_terminal)
    pairs = replace(request.pairs, at_once=at_once, bar="scoring" if shown else "")
    blocks = blocks_of(read(pairs))
    first = next(blocks, PairBlock([], []))
    models = dict(zip(request.names, (s.vocabularies for s in scorers), strict=True))
    check = UnknownWordCheck(pairs.name, models, request.max_unknown)
    if not at_once or len(first.sources) >= TELLING:
        check.begin(first)
    _tell_columns(columns)
    tell_scoring(scorers, lambda: first)
    counts = write_scores(request, columns, chain([first], blocks))
    check.finish()
    if counts.bad_lines:
        say(
            f"{counts.bad_lines:,} of {counts.pairs + counts.bad_lines:,} lines of {pairs.name} "
            f"are no pairs, the first of them line {counts.first_bad:,}"
        )
    for line in counts.summary(columns) if request.summary else ():
        say(line)


def _tell_columns(columns: Sequence[ScoreColumn]) -> None:
    """Says what is scored, where that is not p(target | source) of one model."""
    for number, column in enumerate(columns, 1):
        inverse = column.scorers[0].direction == "inverse"
        what = f"ln p({'source | target' if inverse else 'target | source'})"
        if len(columns) > 1:
            note(f"column {number}: {what} of {column.name}")
        elif inverse:
            note(f"the model is inverse: scores are {what}")


def tell_scoring(scorers: Sequence[PhraseScorer], sample: Callable[[], PairBlock]) -> None:
    """Tells where scores are no probabilities, and the error of those that are not exact.

    It is measured on the pairs of `sample`, which are read only then.
    """
    for scorer in scorers:
        detail(f"{scorer!r}: {', '.join(scorer.computed_with.values())}")
        if not scorer.is_probability:
            say("the model is masked: scores are pseudo-log-likelihoods, no log-probabilities")
    rounded = [scorer for scorer in scorers if not scorer.arithmetic.is_exact]
    if not rounded:
        return
    from phrase_scorer.scoring.accuracy import measure_accuracy

    block = sample()
    for scorer in rounded:
        if block.sources:
            say(f"{scorer.precision}, against exact scores: {measure_accuracy(scorer, block)}")


BEAM = 10  # of beam search
# What a terminal obeys; the words of a model may be a stranger's.
ESCAPED = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160))}


@click.command(epilog="\b\nExample:\n  phrase-scorer info rnn/")
@click.argument("model_path", metavar="DIR", type=click.Path(path_type=Path))
@format_option
@option("--json", "form", flag_value="json", help="The same as --format json.")
def info(model_path: Path, form: str) -> None:
    """Show what a model is: sizes, direction, training, fingerprint.

    And by what it would be scored on this machine's CPU: compiled kernels, or torch alone, which is
    slower.
    """
    from phrase_scorer.kernels.library import kernels_in_words
    from phrase_scorer.models.files import ModelFiles

    facts = {**ModelFiles(model_path).describe(), "kernels": kernels_in_words()}
    if form == "json":
        click.echo(as_json(facts), nl=False)
        return
    rows: dict[str, Any] = {}
    for name, value in facts.items():
        inner = value if isinstance(value, dict) else {"": value}
        rows |= {f"{name}: {key}".removesuffix(": "): value for key, value in inner.items()}
    width = max(len(printable(name)) for name in rows)
    for name, value in rows.items():
        counted = isinstance(value, int) and not isinstance(value, bool)
        shown = f"{value:,}" if counted else printable(str(value))
        click.echo(f"{printable(name):<{width}}  {shown}")


@dataclass(frozen=True)
class GenerateRequest:
    """What `generate` is asked; None: the default, which only its own kind of search has."""

    phrases: tuple[str, ...]
    model_path: Path
    beam: int | None
    sample: int | None  # how many targets to draw; None: beam search
    n_best: int | None
    temperature: float | None
    seed: int | None
    max_words: int | None
    allow_unknown: bool
    as_json: bool
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        if self.sample is None:
            for name in ("temperature", "seed"):
                if getattr(self, name) is not None:
                    raise UsageError(f"--{name} is for --sample")
        elif self.beam is not None:
            raise UsageError("either --beam or --sample")
        if self.n_best is not None:
            require_at_least(1, "--n-best", self.n_best)
        require_models(self.model_path)

    def found(self, generator: Generator, source: list[int]) -> list[Generated]:
        """The targets of a source, by beam search or drawn."""
        if self.sample is None:
            found = generator.search(source, BEAM if self.beam is None else self.beam)
        else:
            temperature = 1.0 if self.temperature is None else self.temperature
            seed = 1 if self.seed is None else self.seed
            found = generator.sample(source, self.sample, temperature=temperature, seed=seed)
        return found[: self.n_best]


@click.command(epilog="""\b
Examples:
  phrase-scorer generate --model rnn/ "at the end of the"
  phrase-scorer generate --model rnn/ --beam 50 --n-best 5 "at the end of the"
  phrase-scorer generate --model rnn/ --sample 50 --temperature 0.8 --seed 3 "a man"
  cut -f1 phrases.txt | phrase-scorer generate --model rnn/ -
""")  # fmt: skip
@click.argument("phrases", metavar="PHRASE...", nargs=-1, required=True)
@model_option
@option("--beam", type=COUNT, metavar="N", help="Width of the beam search.  [default: 10]")
@option("--sample", type=COUNT, metavar="N", help="Draw N targets at random instead.")
@option("--n-best", type=COUNT, metavar="N", help="Show N targets per phrase.  [default: all]")
@option("--temperature", type=POSITIVE, metavar="T",
        help="Divisor of the logits when sampling.  [default: 1]")  # fmt: skip
@option("--seed", type=SEED, metavar="N", help="Random seed of --sample.  [default: 1]")
@option("--max-words", type=COUNT, metavar="N", help="Longest target, in words.  [default: 20]")
@option("--allow-unknown", is_flag=True, help="Let <unk> be one of the words.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object per phrase.")
@device_options
@takes(GenerateRequest)
def generate(request: GenerateRequest) -> None:
    """Show what a model would say for a source PHRASE ("-": the lines of standard input).

    Each line has ln p(target | source), tab, how often it was drawn (with --sample), tab, the
    target. The logarithm is natural and includes the end symbol, as everywhere.
    """
    from phrase_scorer.models.directory import ModelDirectory
    from phrase_scorer.scoring.generation import LONGEST, Generator

    request.arithmetic.use_threads()
    directory = ModelDirectory(request.model_path)
    model = directory.load_model().to(request.arithmetic.torch_device())
    source, target = directory.vocabularies()
    longest = LONGEST if request.max_words is None else request.max_words
    generator = Generator(model, longest=longest, allow_unknown=request.allow_unknown)
    if model.config.direction == "inverse":
        note("the model is inverse: PHRASE is of the target language")
    for phrase in _phrases(request.phrases):
        words = words_of(phrase)
        found = request.found(generator, [source.id(word) for word in words])
        unknown = [word.decode("utf-8", "replace") for word in words if source.id(word) == UNKNOWN]
        if unknown:
            say(f"warning: unknown to the model: {' '.join(unknown)}")
        _show(phrase, found, target, request)


def _phrases(phrases: tuple[str, ...]) -> Iterator[bytes]:
    """The phrases, those of standard input in the place of "-"."""
    for phrase in phrases:
        if phrase != "-":
            words = phrase.encode("utf-8", "surrogateescape")
            if not words_of(words):
                raise UsageError("an empty PHRASE")
            yield words
            continue
        for number, line in numbered_lines("-", mark="strip"):
            words = line.removesuffix(b"\r")
            if not words_of(words):
                raise DataError("empty source", path="-", line=number)
            yield words


def _show(
    phrase: bytes, found: list[Generated], vocabulary: Vocabulary, request: GenerateRequest
) -> None:
    source = b" ".join(words_of(phrase)).decode("utf-8", "replace")
    targets = [b" ".join(vocabulary.words[i] for i in generated.words) for generated in found]
    texts = [target.decode("utf-8", "replace") for target in targets]
    if request.as_json:
        listed = [
            {"target": text, "log_prob": round(generated.log_prob, 6)}
            | ({} if request.sample is None else {"count": generated.count})
            for text, generated in zip(texts, found, strict=True)
        ]
        line = json.dumps({"source": source, "targets": listed}, ensure_ascii=False)
        click.echo(line.translate(ESCAPED))
        return
    if len(request.phrases) > 1 or request.phrases == ("-",):
        click.echo(f"# {source}")
    for text, generated in zip(texts, found, strict=True):
        count = "" if request.sample is None else f"{generated.count}\t"
        click.echo(f"{generated.log_prob:.4f}\t{count}{text.translate(ESCAPED)}")


@dataclass(frozen=True)
class AlignRequest:
    """What `align` is asked."""

    pairs: PairFiles
    output: str
    model_path: Path
    kind: Literal["json", "pharaoh"]
    plot: str | None
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        self.output_file()  # refused where it cannot be written
        if self.plot:
            require_kind(self.plot)
            output = None if self.output == STANDARD else self.output
            inputs = dict(zip(self.pairs.labels, self.pairs.paths, strict=True))
            check_option("--plot", self.plot, {**inputs, "--output": output})
            require_matplotlib()
        require_models(self.model_path)

    def output_file(self) -> OutputFile:
        """Where the alignments are written."""
        return OutputFile(self.output, inputs=self.pairs.paths)


@click.command(epilog="""\b
Examples:
  phrase-scorer align --model attention/ pairs.tsv > alignments.jsonl
  phrase-scorer align --model attention/ --format pharaoh phrase-table.gz | head
  phrase-scorer align --model attention/ pairs.tsv --plot first.svg > alignments.jsonl
""")  # fmt: skip
@pairs_argument
@model_option
@output_option
@any_table_option
@option("--format", "kind", type=click.Choice(["json", "pharaoh"]), default="json", help="json: "
        "every weight; pharaoh: for each target word its likeliest source word, i-j.")  # fmt: skip
@option("--plot", metavar="FILE", help="Draw the first pair's alignment (png, svg, pdf).")
@device_options
@click.pass_obj
@takes(AlignRequest)
def align(read: PairReader, request: AlignRequest) -> None:
    """Show the soft alignment of an attention model for PAIRS, as `score` reads them.

    One JSON object per line: source and target with their end symbols, and for each target symbol
    the weights of the source symbols (rows; each sums to one).
    """
    from phrase_scorer.scoring.alignment import Aligner, alignment_picture
    from phrase_scorer.scoring.scorer import blocks_of

    request.arithmetic.use_threads()
    aligner = Aligner(request.model_path, request.arithmetic.torch_device())
    if aligner.model.config.direction == "inverse":
        note("the model is inverse: it reads the target, and predicts the source")
    undrawn = request.plot
    with request.output_file() as out:
        for block in blocks_of(read(request.pairs)):
            for alignment in aligner.alignments(block):
                if undrawn:
                    picture = alignment_picture(alignment, aligner.log_prob(block))
                    save_picture(picture, undrawn)
                    undrawn = None
                line = alignment.as_json() if request.kind == "json" else alignment.as_pharaoh()
                out.write(line.encode("utf-8", "surrogateescape") + b"\n")
    if undrawn:
        say(f"warning: no pairs, so {undrawn} was not drawn")
