"""The command over n-best lists: nbest."""

from __future__ import annotations

from pathlib import Path

import click

from moses_integration.cli.options import models_option, unknown_words_of_option
from moses_integration.reranking.features import (
    NBestFeature,
    NbestRequest,
    add_features,
    continuous_space_feature,
    language_model_feature,
    phrase_feature,
    sentence_feature,
)
from moses_integration.reranking.weights import read_weights, rerank
from phrase_scorer.cli.options import device_options, option, output_option, quiet_option, takes
from phrase_scorer.runtime.console import say


@click.command(epilog="""\b
Examples:
  phrase-scorer nbest val.nbest.gz --source val.en --model rnn/ --output val.rnn.nbest.gz
  phrase-scorer nbest val.nbest.gz --source val.en --model rnn/ --level phrase --lm big.arpa \\
      --name RNN0 --name LM1 --output val.rnn.nbest.gz
  phrase-scorer tune --rescore-nbest val.rnn.nbest.gz --moses-ini tuned/moses.ini \\
      --reference val.fr --working-dir reranking/
  phrase-scorer nbest test.rnn.nbest.gz --rerank reranking/weights --output test.out
""")  # fmt: skip
@click.argument("nbest_list", metavar="NBEST_LIST")
@option("--source", metavar="FILE", help="The text that was decoded.")
@models_option("--model", "ln p(target | source)")
@models_option("--inverse-model", "ln p(source | target)")
@option(
    "--level", type=click.Choice(["sentence", "phrase"]), default="sentence",
    help="What models score: the whole hypothesis, or each phrase pair (needs the segmentation).",
)  # fmt: skip
@option("--unknown-words", is_flag=True,
        help="A feature -count of the words outside the first model's shortlist.")  # fmt: skip
@unknown_words_of_option
@option("--lm", "language_models", multiple=True, metavar="FILE",
        help="A KenLM or ARPA file: one feature.")  # fmt: skip
@option("--cslm", "continuous_space_models", multiple=True, metavar="DIR", help="Continuous-space "
        "language model (train-lm): exact, not as export-arpa writes it.")  # fmt: skip
@option("--name", "names", multiple=True, metavar="NAME", help="Name of each new feature in turn: "
        "models, inverse models, unknown words, LMs, CSLMs.  [default: RNN0, …]")  # fmt: skip
@option("--rerank", metavar="WEIGHTS", help="Write the best hypothesis per sentence under these "
        "weights (a weights file or moses.ini).")  # fmt: skip
@option("--whole-list", is_flag=True, help="With --rerank: the list in its new order.")
@output_option
@device_options
@quiet_option
@takes(NbestRequest)
def nbest(request: NbestRequest) -> None:
    """Add features to each hypothesis of a Moses n-best list, or pick the best under new weights.

    The line stays as it is; `NAME= value` stands last in its third field. Values are natural
    logarithms. The weights for them come from `tune --rescore-nbest`.
    """
    nbest_list, output = request.nbest_list, request.output
    if request.rerank:
        weights = read_weights(request.rerank)
        sentences = rerank(nbest_list, weights, output, whole_list=request.whole_list)
        say(f"{sentences:,} sentences reranked")
        return
    request.arithmetic.use_threads()
    features, show = _features(request), not request.quiet
    lines = add_features(nbest_list, request.source, output, features, show_progress=show)
    say(f"{lines:,} hypotheses scored")


def _features(request: NbestRequest) -> list[NBestFeature]:
    """The features of a request, their models loaded."""
    from moses_integration.rescoring import columns
    from phrase_scorer.scoring.scorer import PhraseScorer

    def scorer(path: Path) -> PhraseScorer:
        return PhraseScorer.load(path, request.arithmetic)

    names = iter(request.feature_names)
    scored = [columns.translation_column(scorer(path), path) for path in request.models]
    scored += [
        columns.translation_column(scorer(path), path, "inverse") for path in request.inverse_models
    ]
    feature_of = phrase_feature if request.level == "phrase" else sentence_feature
    features = [feature_of(next(names), column.values) for column in scored]
    if request.unknown_words:
        unknown = columns.unknown_words_column(scored[0].scorers[0])
        features.append(sentence_feature(next(names), unknown.values))
    if request.unknown_words_of:
        unknown = columns.words_unknown_to(request.unknown_words_of)
        features.append(sentence_feature(next(names), unknown.values))
    features += [language_model_feature(next(names), path) for path in request.language_models]
    return features + [
        continuous_space_feature(next(names), path, request.arithmetic)
        for path in request.continuous_space_models
    ]
