"""The command over n-best lists: nbest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from moses_integration.cli.options import models_option, unknown_words_of_option
from phrase_scorer.cli.options import device_options, quiet_option
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD

if TYPE_CHECKING:
    from moses_integration.reranking.features import NBestFeature
    from moses_integration.rescoring.columns import FeatureColumn
    from phrase_scorer.scoring.scorer import PhraseScorer


@click.command(
    epilog="""\b
Examples:
  phrase-scorer nbest val.nbest.gz --source val.en --model rnn/ --output val.rnn.nbest.gz
  phrase-scorer nbest val.nbest.gz --source val.en --model rnn/ --level phrase --lm big.arpa \\
      --name RNN0 --name LM1 --output val.rnn.nbest.gz
  phrase-scorer tune --rescore-nbest val.rnn.nbest.gz --moses-ini tuned/moses.ini \\
      --reference val.fr --working-dir reranking/
  phrase-scorer nbest test.rnn.nbest.gz --rerank reranking/weights --output test.out"""
)
@click.argument("nbest_list", metavar="NBEST_LIST")
@click.option("--source", metavar="FILE", help="The text that was decoded.")
@models_option("--model", "ln p(target | source)")
@models_option("--inverse-model", "ln p(source | target)")
@click.option(
    "--level",
    type=click.Choice(["sentence", "phrase"]),
    default="sentence",
    show_default=True,
    help="What models score: the whole hypothesis, or each phrase pair (needs the segmentation).",
)
@click.option("--unknown-words", is_flag=True, help="-(words outside the first model's shortlist).")
@unknown_words_of_option
@click.option("--lm", "language_models", multiple=True, metavar="FILE", help="KenLM or ARPA file.")
@click.option(
    "--cslm",
    "continuous_space_models",
    multiple=True,
    metavar="DIR",
    help="Continuous-space language model (train-lm): exact, not as export-arpa writes it.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Of each new feature: models, inverse models, unknown words, LMs, CSLMs."
    "  [default: RNN0, …]",
)
@click.option("--rerank", metavar="WEIGHTS", help="Pick the best by weights (or a moses.ini's).")
@click.option("--whole-list", is_flag=True, help="With --rerank: the list in its new order.")
@click.option("--output", default=STANDARD, metavar="FILE", help="[default: stdout]")
@device_options
@quiet_option
def nbest(nbest_list: str, output: str, **options: Any) -> None:
    """Add features to each hypothesis of a Moses n-best list, or pick the best under new weights.

    The line stays as it is; `NAME= value` stands last in its third field. Values are natural
    logarithms. The weights for them come from `tune --rescore-nbest`.
    """
    if options["rerank"]:
        _rerank(nbest_list, output, options)
        return
    if options["whole_list"]:
        raise UsageError("--whole-list needs --rerank WEIGHTS")
    from moses_integration.reranking.features import add_features
    from phrase_scorer.runtime.device import set_threads

    set_threads(options["threads"])
    if not options["source"]:
        raise UsageError("give --source FILE, the text that was decoded")
    lines = add_features(
        nbest_list,
        options["source"],
        output,
        _features(options),
        show_progress=not options["quiet"],
    )
    say(f"{lines:,} hypotheses scored")


def _rerank(nbest_list: str, output: str, options: dict[str, Any]) -> None:
    from moses_integration.reranking.weights import read_weights, rerank

    added = ("models", "inverse_models", "language_models", "continuous_space_models")
    for name in (*added, "unknown_words", "unknown_words_of", "names"):
        if options[name]:
            raise UsageError("--rerank adds no features; do that first")
    weights = read_weights(options["rerank"])
    sentences = rerank(nbest_list, weights, output, whole_list=options["whole_list"])
    say(f"{sentences:,} sentences reranked")


def _features(options: dict[str, Any]) -> list[NBestFeature]:
    """The features that the options ask for, named."""
    from moses_integration.reranking import features as nbest_features
    from moses_integration.rescoring import columns as feature_columns
    from phrase_scorer.scoring.scorer import PhraseScorer

    names = _names(options)
    at_level = {
        "sentence": nbest_features.sentence_feature,
        "phrase": nbest_features.phrase_feature,
    }[options["level"]]
    scorers, features = [], []
    for paths, column in (
        (options["models"], feature_columns.translation_column),
        (options["inverse_models"], feature_columns.inverse_column),
    ):
        for path in paths:
            scorers.append(PhraseScorer.load(path, options["device"]))
            values = column(scorers[-1], path).values
            features.append(at_level(names.pop(0), values))
    if options["unknown_words"] or options["unknown_words_of"]:
        values = _unknown_words(scorers, options).values
        features.append(nbest_features.sentence_feature(names.pop(0), values))
    features += [
        nbest_features.language_model_feature(names.pop(0), path)
        for path in options["language_models"]
    ]
    features += [
        nbest_features.continuous_space_feature(names.pop(0), path, options["device"])
        for path in options["continuous_space_models"]
    ]
    return features


def _unknown_words(scorers: Sequence[PhraseScorer], options: dict[str, Any]) -> FeatureColumn:
    from moses_integration.rescoring.columns import unknown_words_column, words_unknown_to

    if not options["unknown_words"]:
        return words_unknown_to(options["unknown_words_of"])
    if options["unknown_words_of"]:
        raise UsageError("--unknown-words or --unknown-words-of DIR, not both")
    if not scorers:
        raise UsageError("--unknown-words needs a model, whose shortlist it is")
    return unknown_words_column(scorers[0])


def _names(options: dict[str, Any]) -> list[str]:
    defaults = [
        *[f"RNN{i}" for i in range(len(options["models"]))],
        *[f"InverseRNN{i}" for i in range(len(options["inverse_models"]))],
        *["UnknownTargetWords0"] * bool(options["unknown_words"] or options["unknown_words_of"]),
        *[f"RescoringLM{i}" for i in range(len(options["language_models"]))],
        *[f"CSLM{i}" for i in range(len(options["continuous_space_models"]))],
    ]
    if not defaults:
        raise UsageError("give --model, --inverse-model, --lm or --cslm; or --rerank WEIGHTS")
    names = list(options["names"]) or defaults
    if len(names) != len(defaults):
        raise UsageError(f"{len(names)} times --name, but {len(defaults)} new features")
    return names
