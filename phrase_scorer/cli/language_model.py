"""The commands of the continuous-space language model: train-lm, perplexity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import (
    SHORTLIST,
    device_options,
    model_option,
    quiet_option,
    run_options,
)
from phrase_scorer.cli.train import check_directory, given, tell_result
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say

MIN_COUNT = 2
HELD_OUT = 0.02  # of the text, where no other is given to validate on


@click.command(
    name="train-lm",
    epilog="""\b
Examples:
  phrase-scorer train-lm corpus.fr --model cslm/ --validation val.fr
  phrase-scorer train-lm corpus.fr.gz --model cslm/ --preset paper --device cuda
  phrase-scorer train-lm corpus.fr --model cslm/ --resume""",
)
@click.argument("text", metavar="TEXT")
@model_option
@click.option("--validation", metavar="FILE", help="Held-out text.  [default: 2 % of TEXT]")
@click.option(
    "--preset",
    type=click.Choice(["small", "base", "paper"]),
    default="small",
    show_default=True,
    help="Sizes and training settings; paper: 512, 1536, 1024, uniform start, AdaDelta.",
)
@click.option("--order", type=int, default=7, show_default=True, metavar="N", help="Of n-grams.")
@click.option("--embedding", type=int, metavar="N", help="Of a word.  [default: preset's]")
@click.option("--hidden", type=int, metavar="N", help="Of the first layer.  [default: preset's]")
@click.option("--second-hidden", type=int, metavar="N", help="Of the second.  [default: preset's]")
@click.option("--dropout", type=float, metavar="P", help="In training.  [default: preset's]")
@click.option(
    "--short-histories",
    type=float,
    metavar="P",
    help="Contexts of training cut short, for export-arpa's lower orders.  [default: 0.25]",
)
@click.option(
    "--shortlist", type=click.IntRange(2), default=SHORTLIST, show_default=True, metavar="N",
    help="Most frequent words that the model knows, <unk> included.",
)  # fmt: skip
@click.option(
    "--min-count", type=click.IntRange(1), default=MIN_COUNT, show_default=True, metavar="N",
    help="Rarer words are <unk>; of words seen once it learns what an unknown word is.",
)  # fmt: skip
@click.option("--max-updates", type=int, metavar="N", help="Updates in all.  [default: preset's]")
@click.option("--max-minutes", type=float, metavar="M", help="Stop after M minutes.")
@click.option("--batch-sentences", "batch_pairs", type=int, metavar="N", help="An update.")
@click.option("--optimizer", type=click.Choice(["adamw", "adadelta"]), help="[default: preset's]")
@click.option("--learning-rate", type=float, metavar="X", help="Highest learning rate.")
@click.option(
    "--initial-deviation", type=float, metavar="X",
    help="Weights start uniform in ±X; 0: as He et al. 2015.  [default: preset's]",
)  # fmt: skip
@run_options
@device_options
@quiet_option
def train_lm(text: str, **options: Any) -> int:
    """Train a continuous-space language model (CSLM) on TEXT: tokenised, one sentence a line.

    A feed-forward network over the last six words (Cho et al. 2014, section 4.1.2). The unit of all
    losses is nats a symbol, end symbols included; exp of it is the perplexity.
    """
    from phrase_scorer.language_model.model import read_sentences, text_pairs, text_vocabulary
    from phrase_scorer.models import ModelConfig
    from phrase_scorer.runtime.device import choose_device, set_threads
    from phrase_scorer.text.vocabulary import Vocabulary
    from phrase_scorer.training.settings import TrainingSettings, preset_of
    from phrase_scorer.training.trainer import train

    set_threads(options["threads"])
    device, preset = choose_device(options["device"]), options["preset"]
    sizes, training = preset_of(preset, "cslm")
    settings = TrainingSettings(**training | given(options, TrainingSettings))
    sizes = sizes | {"architecture": "cslm"} | given(options, ModelConfig)
    ModelConfig(source_words=2, target_words=2, **sizes)
    check_directory(options)
    sentences = list(read_sentences(text))
    if options["validation"] is None:
        held_out = max(1, round(HELD_OUT * len(sentences)))
        if len(sentences) < 2:
            raise UsageError("one sentence is not enough to train and to validate on")
        step = len(sentences) // held_out
        validation = sentences[step - 1 :: step]
        del sentences[step - 1 :: step]
    else:
        validation = list(read_sentences(options["validation"]))
    vocabulary = text_vocabulary(sentences, options["shortlist"], options["min_count"])
    nothing = Vocabulary(())
    say(
        f"{len(sentences):,} sentences, {sum(map(len, sentences)):,} words; {len(vocabulary):,} "
        f"words in the shortlist; {len(validation):,} sentences to validate on; device {device}"
    )
    result = train(
        text_pairs(sentences, vocabulary),
        (nothing, vocabulary),
        ModelConfig(source_words=len(nothing), target_words=len(vocabulary), **sizes),
        settings,
        options["model_path"],
        device=device,
        max_minutes=options["max_minutes"],
        checkpoint_minutes=options["checkpoint_minutes"],
        resume=options["resume"],
        show_progress=not options["quiet"],
        details={"path": text, "preset": preset},
        validation=text_pairs(validation, vocabulary),
    )
    return tell_result(result)


@click.command(
    epilog="""\b
Examples:
  phrase-scorer perplexity --model cslm/ val.fr
  phrase-scorer perplexity --model cslm/ --arpa lm.arpa --arpa cslm.arpa val.fr"""
)
@click.argument("text", metavar="TEXT", default="-")
@model_option
@click.option(
    "--arpa", "arpas", multiple=True, metavar="FILE",
    help="An n-gram LM to compare and interpolate with (package kenlm).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@device_options
def perplexity(
    text: str, model_path: Path, arpas: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Perplexity of a continuous-space language model on TEXT, and of n-gram LMs beside it.

    exp of the mean -ln p over all symbols, end symbols included. The model's own vocabulary has
    <unk> for every other word. With --arpa, all are compared over the words of the first ARPA file:
    the model's <unk> is shared out among those of them that it does not know, in proportion to
    their unigram probabilities; words that are not in the file either are its <unk>.
    """
    from phrase_scorer.language_model.model import LanguageModel, read_sentences
    from phrase_scorer.language_model.perplexity import compare_with_ngrams, own_perplexity
    from phrase_scorer.runtime.device import choose_device, set_threads

    set_threads(options["threads"])
    sentences = list(read_sentences(text))
    model = LanguageModel.load(model_path, choose_device(options["device"]))
    own = own_perplexity(model, sentences)
    rows = [(f"{model_path} (its own vocabulary)", own, "")]
    if arpas:
        rows += compare_with_ngrams(model, str(model_path), arpas, sentences)
    if as_json:
        listed = [
            {"model": name, "weight of the model": weight or None, **vars(found)}
            for name, found, weight in rows
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    click.echo(f"{own.symbols:,} symbols with end symbols")
    width = max(len(name) for name, _, _ in rows)
    click.echo(f"{'':<{width}}  perplexity  without unknown words  unknown  weight")
    for name, found, weight in rows:
        click.echo(
            f"{name:<{width}}  {found.all:10.2f}  {found.known:21.2f}  {found.unknown:7,}  {weight}"
        )
