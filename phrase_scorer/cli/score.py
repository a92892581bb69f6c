"""The commands over a trained model: score, info, generate, align; what scoring tells besides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from phrase_scorer.cli.options import (
    COUNT,
    POSITIVE,
    SEED,
    PairReader,
    PairsRequest,
    device_options,
    format_option,
    model_option,
    option,
    precision_option,
    scoring_options,
    takes,
)
from phrase_scorer.errors import DataError, UsageError, printable, require_at_least
from phrase_scorer.runtime.console import note, say
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.figures import require_kind, require_matplotlib, save_picture
from phrase_scorer.runtime.output import STANDARD, check_option
from phrase_scorer.runtime.report import as_json
from phrase_scorer.runtime.streams import numbered_lines
from phrase_scorer.text.phrase_pairs import PairBlock, words_of
from phrase_scorer.text.vocabulary import UNKNOWN, Vocabulary

if TYPE_CHECKING:
    from phrase_scorer.scoring.generation import Generated, Generator
    from phrase_scorer.scoring.scorer import PhraseScorer


@click.command(epilog="""\b
Examples:
  phrase-scorer score --model rnn/ pairs.tsv > scores.txt
  paste source.txt target.txt | phrase-scorer score --model rnn/ -
  echo "the blue house ||| la maison bleue" | phrase-scorer score --model rnn/ -
  phrase-scorer score --model rnn/ --precision int8 phrase-table.gz > scores.txt
""")  # fmt: skip
@scoring_options
@precision_option
@device_options
@click.pass_obj
@takes(PairsRequest)
def score(read: PairReader, request: PairsRequest) -> None:
    """Score the pairs of PAIRS: lines "source<TAB>target" or "source ||| target".

    Writes one number per line, in the same order: the natural logarithm of p(target | source),
    summed over the target's words and the end of the phrase, not normalised for length. For a
    model of direction inverse it is ln p(source | target).
    """
    from phrase_scorer.scoring.scorer import PhraseScorer, blocks_of

    request.arithmetic.use_threads()
    scorer = PhraseScorer.load(request.model_path, request.arithmetic)
    if scorer.direction == "inverse":
        note("the model is inverse: scores are ln p(source | target)")
    blocks = blocks_of(read(request.pairs, any_table=request.any_table))
    first = next(blocks, PairBlock([], []))
    tell_scoring([scorer], lambda: first)
    with request.output_file() as out:
        for block in chain([first], blocks):
            values = scorer.score_block(block)
            out.write("".join(f"{value:.6f}\n" for value in values.tolist()).encode())


def tell_scoring(scorers: Sequence[PhraseScorer], sample: Callable[[], PairBlock]) -> None:
    """Tells where scores are no probabilities, and the error of those that are not exact.

    It is measured on the pairs of `sample`, which are read only then.
    """
    for scorer in scorers:
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
    from phrase_scorer.models.files import ModelFiles
    from phrase_scorer.scoring.library import kernels_in_words

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
class AlignRequest(PairsRequest):
    """What `align` is asked."""

    kind: Literal["json", "pharaoh"]
    plot: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plot:
            require_kind(self.plot)
            output = None if self.output == STANDARD else self.output
            check_option("--plot", self.plot, {"PAIRS": self.pairs, "--output": output})
            require_matplotlib()


@click.command(epilog="""\b
Examples:
  phrase-scorer align --model attention/ pairs.tsv > alignments.jsonl
  phrase-scorer align --model attention/ --format pharaoh phrase-table.gz | head
  phrase-scorer align --model attention/ pairs.tsv --plot first.svg > alignments.jsonl
""")  # fmt: skip
@scoring_options
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
        for block in blocks_of(read(request.pairs, any_table=request.any_table)):
            for alignment in aligner.alignments(block):
                if undrawn:
                    picture = alignment_picture(alignment, aligner.log_prob(block))
                    save_picture(picture, undrawn)
                    undrawn = None
                line = alignment.as_json() if request.kind == "json" else alignment.as_pharaoh()
                out.write(line.encode("utf-8", "surrogateescape") + b"\n")
    if undrawn:
        say(f"warning: no pairs, so {undrawn} was not drawn")
