"""The commands around the decoder: tune, decode, binarize, nbest."""

from __future__ import annotations

from pathlib import Path

import click

from moses_integration.cli.options import (
    FILE,
    ini_options,
    models_option,
    moses_options,
    unknown_words_of_option,
)
from moses_integration.decoder.binarization import (
    BinarizeRequest,
    InisToCompare,
    check_by_decoding,
    make_binary,
)
from moses_integration.decoder.decoding import DecodeRequest, translate
from moses_integration.decoder.tuning import Tuner, TuneRequest, added_columns, weight_table
from moses_integration.formats.moses_ini import MosesIni, weights_of
from moses_integration.reranking.features import (
    NBestFeature,
    NbestRequest,
    add_features,
    continuous_space_feature,
    language_model_feature,
    phrase_feature,
    sentence_feature,
)
from moses_integration.reranking.weights import (
    learn_weights,
    nbest_bleu,
    read_weights,
    rerank,
    write_weights,
)
from phrase_scorer.cli.options import (
    CORES,
    COUNT,
    COUNT_OR_NONE,
    SEED,
    answer,
    device_options,
    json_option,
    max_unknown_option,
    option,
    output_option,
    require_models,
    statistics_option,
    takes,
    together,
    wants_json,
)
from phrase_scorer.runtime.console import note, say
from phrase_scorer.runtime.output import STANDARD, make_new_folder, real_path
from phrase_scorer.text.unknown_words import UnknownWordCheck

decoder_options = together(
    option("--decoder", type=click.Choice(["moses", "moses2"]), default="moses",
           help="The decoder to run."),
    option("--decoder-flags", default="", show_default=False, metavar="TEXT",
           help="More of the decoder's own options."),
)  # fmt: skip


@click.command(epilog="""\b
Examples:
  phrase-scorer tune --moses-ini moses.rnn.ini --source val.en --reference val.fr \\
      --working-dir tuned/ --runs 3 --threads 2
  phrase-scorer tune --moses-ini moses.rnn.ini --source val.en --reference val.fr \\
      --working-dir tuned/ --runs 3 --threads 2 --resume
  phrase-scorer tune --rescore-nbest val.rnn.nbest.gz --moses-ini tuned/moses.ini \\
      --reference val.fr --working-dir reranking/ --optimizer mira
""")  # fmt: skip
@option("--moses-ini", required=True, metavar="FILE", help="The model to tune.")
@option("--source", type=FILE, metavar="FILE", help="The tuning set's source side.")
@option("--reference", required=True, type=FILE, metavar="FILE",
        help="The tuning set's translation.")  # fmt: skip
@option("--working-dir", required=True, type=FILE, metavar="DIR", help="A new folder.")
@option("--optimizer", type=click.Choice(["mert", "mira"]), default="mert",
        help="MERT, or batch MIRA.")  # fmt: skip
@option("--runs", type=COUNT, default=1, help="Tuning runs, each with its own seed.")
@option("--seed", type=SEED, default=1, help="The first run's seed.")
@option("--nbest", type=COUNT, default=100, help="Hypotheses per sentence.")
@option("--max-iterations", type=COUNT, default=25, help="Iterations per run, at most.")
@option("--threads", type=CORES, default=1, help="Threads of decoder and optimizer.")
@decoder_options
@option("--resume", is_flag=True, help="Go on with a tuning that was interrupted.")
@option("--rescore-nbest", type=FILE, metavar="LIST", help="Learn weights for this n-best list "
        "instead, without decoding again: DIR/weights.")  # fmt: skip
@moses_options
@statistics_option
@takes(TuneRequest)
def tune(request: TuneRequest) -> None:
    """Tune the weights of a model with mert-moses.pl; the best run's are in DIR/moses.ini.

    Each run works in a folder of its own and starts with another seed. Beside its n-best BLEU, a
    run is judged by sacreBLEU (cased, no further tokenisation) of the decoded tuning set.
    """
    note(f"Moses {request.moses.version} in {request.moses.bin}")
    if request.rescore_nbest:
        _learn(request, real_path(request.rescore_nbest))
    else:
        _tune(request)


def _tune(request: TuneRequest) -> None:
    tuner = Tuner(request, note)
    tuning = tuner.run()
    answer({
        "bleu": [run.dev_bleu for run in tuning.runs], "mean": tuning.mean, "spread": tuning.spread,
        "best_run": tuning.best.number, "best_bleu": tuning.best.dev_bleu,
        "start_weights": tuning.start_weights, "weights": tuning.best.weights,
        "moses_ini": str(request.working_dir / "moses.ini"),
    })  # fmt: skip
    if wants_json():
        return
    for line in weight_table(tuning.start_weights, tuning.best.weights, added_columns(tuner.ini)):
        click.echo(line)
    click.echo(
        f"BLEU on the tuning set: mean {tuning.mean:.2f}, standard deviation {tuning.spread:.2f}; "
        f"best run {tuning.best.number} with {tuning.best.dev_bleu:.2f}"
    )
    say(f"{request.working_dir / 'moses.ini'} has the weights of run {tuning.best.number}")


def _learn(request: TuneRequest, nbest: Path) -> None:
    start = weights_of(MosesIni.read(request.moses_ini))
    folder = make_new_folder(request.working_dir, "--working-dir")
    path, reference = folder / "weights", real_path(request.reference)
    weights = learn_weights(
        request.moses, nbest, reference, real_path(folder), start, request.settings
    )
    write_weights(path, weights)
    before, after = nbest_bleu(nbest, reference, None), nbest_bleu(nbest, reference, weights)
    if wants_json():
        answer({"start_weights": start, "weights": weights, "bleu_of_list": before,
                "bleu_reranked": after})  # fmt: skip
        return
    for line in weight_table(start, weights, {}):
        click.echo(line)
    click.echo(f"BLEU of the best hypotheses: {before:.2f} in the list, {after:.2f} reranked")
    say(f"{path} is for: phrase-scorer nbest LIST --rerank {path}")


@click.command(epilog="""\b
Examples:
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out --threads 2
  phrase-scorer decode --moses-ini tuned/moses.ini --input test.en --output test.out \\
      --nbest test.nbest.gz 1000 --distinct --segmentation
""")  # fmt: skip
@option("--moses-ini", required=True, metavar="FILE", help="The model to translate with.")
@option("--input", "source", default=STANDARD, metavar="FILE", help="Tokenised text to translate.")
@option("--output", default=STANDARD, metavar="FILE", help="Where translations are written.")
@option("--nbest", type=(FILE, COUNT), metavar="FILE N",
        help="Also write an n-best list: up to N hypotheses per sentence.")  # fmt: skip
@option("--distinct", is_flag=True, help="Only hypotheses whose words differ.")
@option("--segmentation", is_flag=True, help="Show the phrases' spans in the n-best list.")
@option("--alignment", is_flag=True, help="Show the word alignment in the n-best list.")
@option("--threads", type=CORES, default=1, help="Threads of the decoder.")
@decoder_options
@option("--log", type=FILE, metavar="FILE",
        help="The decoder's log.  [default: OUTPUT.log, or decode.log]")  # fmt: skip
@moses_options
@takes(DecodeRequest)
def decode(request: DecodeRequest) -> None:
    """Translate text with Moses: one line for each line.

    Paths in moses.ini may be relative to the current folder or to that of the moses.ini.
    """
    moses = request.decoder.moses
    moses.check()
    lines, log = translate(request), request.log_file
    say(f"{lines:,} sentences translated by Moses {moses.version}; its log is {log}")


@click.command(epilog="""\b
Examples:
  phrase-scorer binarize phrase-table.rnn.gz --format probing --output phrase-table.probing
  phrase-scorer binarize phrase-table.rnn.gz --format ondisk --output phrase-table.ondisk \\
      --moses-ini moses.rnn.ini --moses-ini-out moses.ondisk.ini --check-input test.en
""")  # fmt: skip
@click.argument("table", metavar="PHRASE_TABLE", type=FILE)
@option("--format", "kind", required=True, type=click.Choice(["probing", "compact", "ondisk"]),
        help="ProbingPT, PhraseDictionaryCompact or PhraseDictionaryOnDisk.")  # fmt: skip
@option("--output", required=True, type=FILE, metavar="NAME",
        help="A new folder; for compact the file NAME.minphr.")  # fmt: skip
@ini_options("the binary table")
@option("--check-input", type=FILE, metavar="FILE", help="Decode sentences of this text with both "
        "tables and compare the n-best lists.")  # fmt: skip
@option("--check-sentences", type=COUNT, default=10, metavar="N",
        help="How many of its sentences to decode, from the first.")  # fmt: skip
@option("--table-limit", type=COUNT_OR_NONE, default=100, metavar="N",
        help="ondisk: targets kept per source; 0: all.")  # fmt: skip
@option("--sort-score", type=COUNT_OR_NONE, default=2, metavar="I",
        help="ondisk: the score (from 0) by which they are chosen.")  # fmt: skip
@option("--threads", type=CORES, default=1, metavar="N",
        help="compact: threads of its program; the others have one.")  # fmt: skip
@moses_options
@json_option
@takes(BinarizeRequest)
def binarize(request: BinarizeRequest) -> None:
    """Make a binary phrase table of PHRASE_TABLE, with as many scores as it has.

    Every line is checked first: Moses' programs write broken tables without a word. Where they
    would misread the table they are given a copy, sorted and with single blanks. The log of all
    programs is NAME.log.

    With --check-input the text table and the binary one must give the same n-best lists, in moses
    and, for probing, in moses2 where it is installed.
    """
    request.moses.check()
    inis = InisToCompare.of(request)
    facts, usage = make_binary(request)
    if not facts.ready:
        say(f"{request.table}: not sorted, or more than single blanks; made from a sorted copy")
    answer({"output": str(request.output), "kind": request.kind, "scores": facts.scores,
            "sorted_copy": not facts.ready, "log": str(request.log)})  # fmt: skip
    say(f"{request.output}: {facts.scores} scores; {usage}; the log is {request.log}")
    if inis:
        if inis.sentences:
            check_by_decoding(request, inis, say)
        if request.target.write(inis.binary):
            say(f"{request.target.moses_ini_out} names it")


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
@max_unknown_option
@option("--whole-list", is_flag=True, help="With --rerank: the list in its new order.")
@output_option
@device_options
@takes(NbestRequest)
def nbest(request: NbestRequest) -> None:
    """Add features to each hypothesis of a Moses n-best list, or pick the best under new weights.

    The line stays as it is; `NAME= value` stands last in its third field. Values are natural
    logarithms. Of words with factors the first one is scored. The weights for the new features come
    from `tune --rescore-nbest`.
    """
    nbest_list, output = request.nbest_list, request.output
    if request.rerank:
        weights = read_weights(request.rerank)
        sentences = rerank(nbest_list, weights, output, whole_list=request.whole_list, say=say)
        say(f"{sentences:,} sentences reranked")
        return
    require_models(*request.models, *request.inverse_models)
    require_models(*request.continuous_space_models)
    request.arithmetic.use_threads()
    features, show = _features(request), not request.quiet
    models = {feature.name: feature.vocabularies for feature in features}
    check = UnknownWordCheck(nbest_list, models, request.max_unknown)
    lines = add_features(
        nbest_list, request.source, output, features, begin=check.begin, show_progress=show
    )
    say(f"{lines:,} hypotheses scored")
    check.finish()


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
    features = [
        feature_of(next(names), column.values, column.scorers[0].vocabularies) for column in scored
    ]
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
