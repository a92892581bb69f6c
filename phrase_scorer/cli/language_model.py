"""The commands of the continuous-space language model: train-lm, perplexity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from typing_extensions import override

from phrase_scorer.cli.options import (
    COUNT,
    SHARE,
    Bounded,
    SectionedCommand,
    device_options,
    model_option,
    option,
    require_models,
    takes,
)
from phrase_scorer.cli.train import (
    TRAINING_HEADINGS,
    model_options,
    preset_option,
    tell_result,
    training_options,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import note
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.streams import refuse_pipes, require_readable
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training.request import SHORTLIST, TrainingPlan, TrainingRequest
from phrase_scorer.training.start import tell_unknown

MIN_COUNT = 2
HELD_OUT = 0.02  # of the text, where no other is given to validate on


@dataclass(frozen=True, kw_only=True)
class TrainLmRequest(TrainingRequest):
    """What `train-lm` is asked for."""

    path: str
    validation: str | None
    min_count: int | None = None

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and self.min_count is not None:
            raise UsageError(f"--min-count: the words are those of --from {self.start}")

    @property
    @override
    def learned_from(self) -> tuple[str, ...]:
        return (self.path,)

    @override
    def inputs(self) -> list[str]:
        return [self.path, *([self.validation] if self.validation is not None else [])]

    def texts(self) -> tuple[Sequence[Sequence[bytes]], Sequence[Sequence[bytes]]]:
        """The sentences to train on, and those to validate on: given, or evenly held out."""
        from phrase_scorer.language_model.model import read_sentences

        sentences = list(read_sentences(self.path))
        if self.validation is not None:
            return sentences, list(read_sentences(self.validation))
        if len(sentences) < 2:
            raise UsageError("one sentence is not enough to train and to validate on")
        step = len(sentences) // max(1, round(HELD_OUT * len(sentences)))
        validation = sentences[step - 1 :: step]
        del sentences[step - 1 :: step]
        return sentences, validation

    def words_of(self, sentences: Sequence[Sequence[bytes]], plan: TrainingPlan) -> Vocabulary:
        """The words of the model to begin from, or the most frequent ones of the text."""
        from phrase_scorer.language_model.model import text_vocabulary

        if plan.words is None:
            size, least = self.shortlist or SHORTLIST, self.min_count or MIN_COUNT
            return text_vocabulary(sentences, size, least)
        if self.min_count is not None:
            raise UsageError("--min-count: the words are those of the model it began from")
        _, vocabulary = plan.words
        if plan.start is not None:
            counts = vocabulary.counts_of(sentences)
            tell_unknown(plan.start.known.path, {"target": counts})
        return vocabulary


@click.command("train-lm", cls=SectionedCommand, headings=TRAINING_HEADINGS, epilog="""\b
Examples:
  phrase-scorer train-lm corpus.fr --model cslm/ --validation val.fr
  phrase-scorer train-lm corpus.fr.gz --model cslm/ --preset paper --device cuda
  phrase-scorer train-lm corpus.fr --model cslm/ --resume
  phrase-scorer train-lm news.fr --model news/ --from cslm/
""")  # fmt: skip
@click.argument("path", metavar="TEXT")
@model_options
@option("--validation", metavar="FILE",
        help="Text to validate on.  [default: 2 % held out of TEXT]")  # fmt: skip
@option("--order", type=COUNT, metavar="N", help="Longest n-grams: a word and "
        "the words before it that are read.  [default: 7]")  # fmt: skip
@preset_option("--embedding", "Width of the words' embeddings.")
@preset_option("--hidden", "Units of the first layer.")
@preset_option("--second-hidden", "Units of the second layer.")
@preset_option("--dropout", "Share of units left out in training.", SHARE, "P")
@option("--short-histories", type=SHARE, metavar="P", help="Share of training contexts cut short, "
        "for export-arpa's lower orders.  [default: 0.25]")  # fmt: skip
@option("--min-count", type=COUNT, metavar="N", help="Rarer words are <unk>; of words "
        f"seen once it learns what an unknown word is.  [default: {MIN_COUNT}]")  # fmt: skip
@option("--batch-sentences", "batch_pairs", type=COUNT, metavar="N",
        help="Sentences per update.  [default: preset's]")  # fmt: skip
@preset_option("--initial-deviation", "Weights start uniform in ±X; 0: as in He et al. 2015.",
               Bounded(float, 0, 1e6), "X")  # fmt: skip
@training_options
@takes(TrainLmRequest)
def train_lm(request: TrainLmRequest) -> int:
    """Train a continuous-space language model (CSLM) on TEXT: tokenised, one sentence per line.

    A feed-forward network over the last six words (Cho et al. 2014, section 4.1.2). The unit of all
    losses is nats per symbol, end symbols included; exp of it is the perplexity.
    """
    plan = request.planned("cslm")
    from phrase_scorer.kernels.library import kernels_in_words
    from phrase_scorer.language_model.model import text_pairs
    from phrase_scorer.training.data import TrainingData

    request.arithmetic.use_threads()
    device = request.arithmetic.torch_device()
    sentences, validation = request.texts()
    vocabulary = request.words_of(sentences, plan)
    note(
        f"{len(sentences):,} sentences, {sum(map(len, sentences)):,} words; {len(vocabulary):,} "
        f"words in the shortlist; {len(validation):,} sentences to validate on; "
        f"device {device}; kernels: {kernels_in_words(device.type)}"
    )
    data = TrainingData(
        text_pairs(sentences, vocabulary),
        plan.words or (Vocabulary(()), vocabulary),
        text_pairs(validation, vocabulary),
    )
    return tell_result(request.run(data, plan))


@dataclass(frozen=True)
class PerplexityRequest:
    """What `perplexity` is asked for."""

    text: str
    model_path: Path
    arpas: tuple[str, ...]
    as_json: bool
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        refuse_pipes(*self.arpas)
        require_readable(self.text, *self.arpas)
        require_models(self.model_path)


@click.command(epilog="""\b
Examples:
  phrase-scorer perplexity --model cslm/ val.fr
  phrase-scorer perplexity --model cslm/ --arpa lm.arpa --arpa cslm.arpa val.fr
""")  # fmt: skip
@click.argument("text", metavar="TEXT", default="-")
@model_option
@option("--arpa", "arpas", multiple=True, metavar="FILE",
        help="An n-gram LM to compare and interpolate with (package kenlm).")  # fmt: skip
@option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
@device_options
@takes(PerplexityRequest)
def perplexity(request: PerplexityRequest) -> None:
    """Perplexity of a continuous-space language model on TEXT, and of n-gram LMs beside it.

    exp of the mean -ln p over all symbols, end symbols included. The model's own vocabulary has
    <unk> for every other word. With --arpa, all are compared over the words of the first ARPA file:
    the model's <unk> is shared out among those of them that it does not know, in proportion to
    their unigram probabilities; words that are not in the file either are its <unk>.
    """
    from phrase_scorer.language_model.model import LanguageModel, read_sentences
    from phrase_scorer.language_model.perplexity import compare_with_ngrams, own_perplexity

    request.arithmetic.use_threads()
    sentences = list(read_sentences(request.text))
    path = request.model_path
    model = LanguageModel.load(path, request.arithmetic.torch_device())
    own = own_perplexity(model, sentences)
    rows = [(f"{path} (its own vocabulary)", own, "")]
    if request.arpas:
        rows += compare_with_ngrams(model, str(path), request.arpas, sentences)
    if request.as_json:
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
