"""The command over n-best lists: nbest."""

from __future__ import annotations

from typing import Any

import click

from moses_integration.cli.options import models_option, unknown_words_of_option
from moses_integration.reranking import features as nbest_features
from moses_integration.reranking.features import NBestFeature, NbestRequest, add_features
from moses_integration.reranking.weights import RerankRequest, read_weights, rerank
from phrase_scorer.cli.options import device_options, quiet_option, request_of
from phrase_scorer.runtime.console import say
from phrase_scorer.runtime.output import STANDARD


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
    "--level", type=click.Choice(["sentence", "phrase"]), default="sentence", show_default=True,
    help="What models score: the whole hypothesis, or each phrase pair (needs the segmentation).",
)  # fmt: skip
@click.option(
    "--unknown-words", is_flag=True,
    help="A feature -count of the words outside the first model's shortlist.",
)  # fmt: skip
@unknown_words_of_option
@click.option("--lm", "language_models", multiple=True, metavar="FILE",
              help="A KenLM or ARPA file: one feature.")  # fmt: skip
@click.option(
    "--cslm", "continuous_space_models", multiple=True, metavar="DIR",
    help="Continuous-space language model (train-lm): exact, not as export-arpa writes it.",
)  # fmt: skip
@click.option(
    "--name", "names", multiple=True, metavar="NAME",
    help="Name of each new feature in turn: models, inverse models, unknown words, LMs, CSLMs."
    "  [default: RNN0, …]",
)  # fmt: skip
@click.option(
    "--rerank", metavar="WEIGHTS",
    help="Write the best hypothesis per sentence under these weights (a weights file or moses.ini)."
)  # fmt: skip
@click.option("--whole-list", is_flag=True, help="With --rerank: the list in its new order.")
@click.option("--output", default=STANDARD, metavar="FILE",
              help="Where to write.  [default: stdout]")  # fmt: skip
@device_options
@quiet_option
def nbest(**options: Any) -> None:
    """Add features to each hypothesis of a Moses n-best list, or pick the best under new weights.

    The line stays as it is; `NAME= value` stands last in its third field. Values are natural
    logarithms. The weights for them come from `tune --rescore-nbest`.
    """
    if options["rerank"]:
        _rerank(request_of(RerankRequest, options))
    else:
        _add(request_of(NbestRequest, options))


def _rerank(request: RerankRequest) -> None:
    weights = read_weights(request.rerank)
    whole = request.whole_list
    sentences = rerank(request.nbest_list, weights, request.output, whole_list=whole)
    say(f"{sentences:,} sentences reranked")


def _add(request: NbestRequest) -> None:
    assert request.source
    request.arithmetic.use_threads()
    lines = add_features(
        request.nbest_list, request.source, request.output, _features(request),
        show_progress=not request.quiet,
    )  # fmt: skip
    say(f"{lines:,} hypotheses scored")


def _features(request: NbestRequest) -> list[NBestFeature]:
    """The features that are asked for, named; their models are loaded."""
    from moses_integration.rescoring import columns
    from phrase_scorer.scoring.scorer import PhraseScorer

    added, arithmetic = request.added, request.arithmetic
    at_level = {
        "sentence": nbest_features.sentence_feature,
        "phrase": nbest_features.phrase_feature,
    }[request.level]
    names = iter(added.feature_names)
    scorers, features = [], []
    for paths, column in (
        (added.models, columns.translation_column),
        (added.inverse_models, columns.inverse_column),
    ):
        for path in paths:
            scorers.append(PhraseScorer.load(path, arithmetic))
            features.append(at_level(next(names), column(scorers[-1], path).values))
    if added.unknown_words:
        column_of_first = columns.unknown_words_column(scorers[0])
        features.append(nbest_features.sentence_feature(next(names), column_of_first.values))
    if added.unknown_words_of:
        column_of_other = columns.words_unknown_to(added.unknown_words_of)
        features.append(nbest_features.sentence_feature(next(names), column_of_other.values))
    features += [
        nbest_features.language_model_feature(next(names), path) for path in added.language_models
    ]
    features += [
        nbest_features.continuous_space_feature(next(names), path, arithmetic)
        for path in added.continuous_space_models
    ]
    return features
