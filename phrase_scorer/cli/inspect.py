"""The commands that look into a model: generate, align."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phrase_scorer.cli.options import SEED, PairReader, device_options, model_option
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.console import say

if TYPE_CHECKING:
    from phrase_scorer.scoring.generation import Generated, Generator
    from phrase_scorer.text.vocabulary import Vocabulary

BEAM = 10  # of beam search


@click.command(
    epilog="""\b
Examples:
  phrase-scorer generate --model rnn/ "at the end of the"
  phrase-scorer generate --model rnn/ --beam 50 --n-best 5 "at the end of the"
  phrase-scorer generate --model rnn/ --sample 50 --temperature 0.8 --seed 3 "a man"
  cut -f1 phrases.txt | phrase-scorer generate --model rnn/ -"""
)
@click.argument("phrases", metavar="PHRASE...", nargs=-1, required=True)
@model_option
@click.option("--beam", type=int, metavar="N", help="Beam search of this width.  [default: 10]")
@click.option("--sample", type=int, metavar="N", help="Draw N targets at random instead.")
@click.option("--n-best", type=int, metavar="N", help="Show N targets a phrase.  [default: all]")
@click.option(
    "--temperature",
    type=float,
    metavar="T",
    help="Of sampling.  [default: 1]",
)
@click.option("--seed", type=SEED, metavar="N", help="Of sampling.  [default: 1]")
@click.option("--max-words", type=int, metavar="N", help="Of a target.  [default: 20]")
@click.option("--allow-unknown", is_flag=True, help="Let <unk> be one of the words.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each phrase.")
@device_options
def generate(phrases: tuple[str, ...], model_path: Path, as_json: bool, **options: Any) -> None:
    """Show what a model would say for a source PHRASE ("-": those on standard input, a line each).

    Each line has ln p(target | source), tab, how often it was drawn (of --sample), tab, the target.
    The logarithm is natural and includes the end symbol, as everywhere.
    """
    from phrase_scorer.models.directory import ModelDirectory
    from phrase_scorer.runtime.device import choose_device, set_threads
    from phrase_scorer.scoring.generation import LONGEST, Generator
    from phrase_scorer.text.vocabulary import UNKNOWN

    if options["sample"] is None:
        for name in ("temperature", "seed"):
            if options[name] is not None:
                raise UsageError(f"--{name} is for --sample")
    elif options["beam"] is not None:
        raise UsageError("either --beam or --sample")
    if options["n_best"] is not None and options["n_best"] < 1:
        raise UsageError(f"--n-best must be at least 1, not {options['n_best']}")
    set_threads(options["threads"])
    directory = ModelDirectory(model_path)
    model = directory.load_model().to(choose_device(options["device"]))
    source, target = directory.vocabularies()
    longest = LONGEST if options["max_words"] is None else options["max_words"]
    generator = Generator(model, longest=longest, allow_unknown=options["allow_unknown"])
    if model.config.direction == "inverse":
        say("the model is inverse: PHRASE is of the target language")
    several = len(phrases) > 1 or phrases == ("-",)
    for phrase in _phrases(phrases):
        words = phrase.split()
        found = _generate(generator, [source.id(word) for word in words], options)
        unknown = [word.decode("utf-8", "replace") for word in words if source.id(word) == UNKNOWN]
        if unknown:
            say(f"warning: unknown to the model: {' '.join(unknown)}")
        _show(phrase, found[: options["n_best"]], target, options, several, as_json)


def _phrases(phrases: tuple[str, ...]) -> Iterator[bytes]:
    """The phrases, those of standard input in the place of "-"."""
    from phrase_scorer.runtime.streams import line_blocks

    for phrase in phrases:
        if phrase != "-":
            if not phrase.split():
                raise UsageError("an empty PHRASE")
            yield phrase.encode("utf-8", "surrogateescape")
            continue
        for block in line_blocks("-"):
            for number, line in enumerate(block.lines, block.first):
                if not line.split():
                    raise DataError("empty source", path="-", line=number)
                yield line


def _generate(generator: Generator, source: list[int], options: dict[str, Any]) -> list[Generated]:
    if options["sample"] is None:
        return generator.search(source, BEAM if options["beam"] is None else options["beam"])
    temperature = 1.0 if options["temperature"] is None else options["temperature"]
    seed = 1 if options["seed"] is None else options["seed"]
    return generator.sample(source, options["sample"], temperature=temperature, seed=seed)


def _show(
    phrase: bytes,
    found: list[Generated],
    vocabulary: Vocabulary,
    options: dict[str, Any],
    several: bool,
    as_json: bool,
) -> None:
    targets = [b" ".join(vocabulary.words[i] for i in generated.words) for generated in found]
    texts = [target.decode("utf-8", "replace") for target in targets]
    source = b" ".join(phrase.split()).decode("utf-8", "replace")
    if as_json:
        listed = [
            {"target": text, "log_prob": round(generated.log_prob, 6)}
            | ({} if options["sample"] is None else {"count": generated.count})
            for text, generated in zip(texts, found, strict=True)
        ]
        click.echo(json.dumps({"source": source, "targets": listed}, ensure_ascii=False))
        return
    if several:
        click.echo(f"# {source}")
    for text, generated in zip(texts, found, strict=True):
        count = "" if options["sample"] is None else f"{generated.count}\t"
        click.echo(f"{generated.log_prob:.4f}\t{count}{text}")


@click.command(
    epilog="""\b
Examples:
  phrase-scorer align --model attention/ pairs.tsv > alignments.jsonl
  phrase-scorer align --model attention/ --format pharaoh phrase-table.gz | head
  phrase-scorer align --model attention/ pairs.tsv --plot first.svg > alignments.jsonl"""
)
@click.argument("pairs", metavar="PAIRS", default="-")
@model_option
@click.option("--output", default="-", metavar="FILE", help="Where to write.  [default: stdout]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "pharaoh"]),
    default="json",
    show_default=True,
    help="json: every weight; pharaoh: for each target word its likeliest source word, i-j.",
)
@click.option("--plot", metavar="FILE", help="Draw the first pair's alignment (png, svg, pdf).")
@device_options
@click.pass_obj
def align(
    read: PairReader, /, pairs: str, output: str, kind: str, plot: str | None, **options: Any
) -> None:  # fmt: skip
    """Show the soft alignment of an attention model for PAIRS, as `score` reads them.

    A JSON object a line: source and target with their end symbols, and for each target symbol the
    weights of the source symbols (rows; each sums to one).
    """
    from phrase_scorer.runtime.device import choose_device, set_threads
    from phrase_scorer.runtime.output import OutputFile, is_same_file
    from phrase_scorer.runtime.report import require_kind
    from phrase_scorer.scoring.alignment import Aligner, plot_alignment
    from phrase_scorer.scoring.scorer import blocks_of

    set_threads(options["threads"])
    if output != "-" and is_same_file(pairs, output):
        raise DataError("the output would overwrite the input", path=output)
    if plot:
        require_kind(plot)
    aligner = Aligner.load(options["model_path"], choose_device(options["device"]))
    if aligner.model.config.direction == "inverse":
        say("the model is inverse: it reads the target, and predicts the source")
    undrawn = plot
    with OutputFile(output) as out:
        for block in blocks_of(read(pairs)):
            for alignment in aligner.alignments(block):
                if undrawn:
                    plot_alignment(alignment, undrawn)
                    undrawn = None
                line = alignment.as_json() if kind == "json" else alignment.as_pharaoh()
                out.write(line.encode("utf-8", "surrogateescape") + b"\n")
    if undrawn:
        say(f"warning: no pairs, so {undrawn} was not drawn")
