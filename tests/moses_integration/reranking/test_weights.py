"""Weights for n-best lists: totals against the decoder's, learning with the real programs."""

from __future__ import annotations

import numpy as np
import pytest
from toys import DATA
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.cli import main
from moses_integration.decoder.programs import Moses, ProgramError
from moses_integration.decoder.tuning import TuningSettings
from moses_integration.formats.moses_ini import MosesIni, weights_of
from moses_integration.formats.nbest import read_nbest
from moses_integration.reranking.features import NBestFeature, add_features
from moses_integration.reranking.weights import (
    learn_weights,
    nbest_bleu,
    read_weights,
    rerank,
    total,
    write_weights,
)
from phrase_scorer.errors import DataError, UsageError

GOLDEN = ALL_GOLDEN / "nbest"
UNKNOWN_WORD = -100.0  # a word, of UnknownWordPenalty0, which no n-best list shows


@pytest.fixture(scope="session")
def decoder_weights():
    return weights_of(MosesIni.read(DATA / "moses.ini"))


@pytest.mark.parametrize("name", ["plain", "all-fields", "moses2"])
def test_totals_are_the_decoders(name, decoder_weights):
    weights = {name.encode(): values for name, values in decoder_weights.items()}
    for group in read_nbest(GOLDEN / name):
        for hypothesis in group:
            penalty = UNKNOWN_WORD * hypothesis.words.count(b"zzz")
            found = total(hypothesis, weights) + penalty
            assert found == pytest.approx(hypothesis.total, rel=1e-4, abs=1e-4)


def test_the_decoders_own_weights_change_no_order(decoder_weights, tmp_path):
    rerank(GOLDEN / "plain", decoder_weights, tmp_path / "best")
    best = [b" ".join(group[0].words) for group in read_nbest(GOLDEN / "plain")]
    assert (tmp_path / "best").read_bytes() == b"".join(b"%b\n" % line for line in best)


LIST = (
    b"0 ||| a ||| LM0= -1 TM0= -2 -3 ||| -9\n"
    b"0 ||| b ||| LM0= -2 TM0= -2 -2 TM_x= 4 ||| -9 ||| 0=0\n"
    b"0 ||| c ||| LM0= -1 TM0= -2 -3 ||| -9\n"
    b"2 ||| d e ||| LM0= 0 TM0= 0 0 ||| -9\n"
)
WEIGHTS = {"LM0": (1.0,), "TM0": (0.5, 0.25)}


def test_order_totals_ties_and_missing_sentences(tmp_path):
    (tmp_path / "list").write_bytes(LIST)
    assert rerank(tmp_path / "list", WEIGHTS, tmp_path / "best") == 3
    assert (tmp_path / "best").read_bytes() == b"a\n\nd e\n"  # a and c tie; 1 is missing
    assert rerank(tmp_path / "list", {**WEIGHTS, "TM_x": (1.0,)}, tmp_path / "best") == 3
    assert (tmp_path / "best").read_bytes() == b"b\n\nd e\n"
    rerank(tmp_path / "list", WEIGHTS, tmp_path / "all", whole_list=True)
    assert (tmp_path / "all").read_bytes() == (
        b"0 ||| a ||| LM0= -1 TM0= -2 -3 ||| -2.75\n"
        b"0 ||| c ||| LM0= -1 TM0= -2 -3 ||| -2.75\n"
        b"0 ||| b ||| LM0= -2 TM0= -2 -2 TM_x= 4 ||| -3.5 ||| 0=0\n"
        b"2 ||| d e ||| LM0= 0 TM0= 0 0 ||| 0\n"
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"LM0": (1.0,)}, "the feature TM0 has no weight"),
        ({**WEIGHTS, "TM0": (1.0,)}, "the feature TM0 has 1 weights for its 2 values"),
    ],
)
def test_weights_that_do_not_fit(weights, message, tmp_path):
    (tmp_path / "list").write_bytes(LIST)
    with pytest.raises(DataError) as caught:
        rerank(tmp_path / "list", weights, tmp_path / "best")
    assert str(caught.value) == f"{tmp_path}/list:1: {message}"
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"LM0= nan TM0= -2 -3", 'a feature is not finite: "LM0= nan"'),
        (b"LM0= -1 TM0= -2 -inf", 'a feature is not finite: "TM0= -2.0 -inf"'),
        (b"LM0= -1 TM0= -2 -3 TM_x= 1e999", 'a feature is not finite: "TM_x= inf"'),
        (b"LM0= -1", 'not the dense features of the first line, in its order: "TM0"'),
        (b"LM0= -1 TM0= -2 -3 RNN0= 1", 'not the dense features of the first line, in its order: '
         '"RNN0"'),
        (b"TM0= -2 -3 LM0= -1", 'not the dense features of the first line, in its order: "LM0"'),
    ],
)  # fmt: skip
def test_features_that_cannot_be_weighed(line, message, tmp_path):
    """By reranking and by learning, which has one sentence less to learn from."""
    path, reference = tmp_path / "list", tmp_path / "r"
    path.write_bytes(LIST.replace(b"\n2 |||", b"\n1 |||") + b"2 ||| a ||| " + line + b" ||| 1\n")
    reference.write_bytes(b"a\nb\nc\n")
    with pytest.raises(DataError) as caught:
        rerank(path, {**WEIGHTS, "TM_x": (0.0,), "RNN0": (1.0,)}, tmp_path / "best")
    assert str(caught.value) == f"{path}:5: {message}"
    assert not (tmp_path / "best").exists()
    with pytest.raises(DataError) as caught:
        learn_weights(Moses(), path, reference, tmp_path, {}, TuningSettings())
    assert str(caught.value) == f"{path}:5: {message}"


def test_idle_weights_are_told(run, tmp_path):
    """Of a forgotten feature; not those that are 0, sparse, or never in a list of Moses."""
    (tmp_path / "list").write_bytes(LIST)
    weights = {
        **WEIGHTS,
        "RNN0": (0.3,),
        "A0": (0.0,),
        "TM_y": (1.0,),
        "UnknownWordPenalty0": (1.0,),
    }
    write_weights(tmp_path / "w", weights)
    command = ["nbest", tmp_path / "list", "--rerank", tmp_path / "w", "--output", tmp_path / "o"]
    said = "warning: weights for what the list has not: RNN0\n3 sentences reranked\n"
    assert run(*command) == (0, "", said)
    write_weights(tmp_path / "w", WEIGHTS)
    assert run(*command) == (0, "", "3 sentences reranked\n")


def test_an_empty_list(run, tmp_path):
    (tmp_path / "list").touch()
    write_weights(tmp_path / "w", WEIGHTS)
    command = ["nbest", tmp_path / "list", "--rerank", tmp_path / "w", "--output", tmp_path / "o"]
    assert run(*command) == (1, "", f"error: {tmp_path}/list: the n-best list is empty\n")
    assert not (tmp_path / "o").exists()


def test_factors_stay_in_the_best_and_the_surface_is_judged(tmp_path):
    text = LIST.replace(b"||| d e |||", b"||| d|N e|V|0 |||")
    (tmp_path / "list").write_bytes(text)
    rerank(tmp_path / "list", WEIGHTS, tmp_path / "best")
    assert (tmp_path / "best").read_bytes() == b"a\n\nd|N e|V|0\n"
    (tmp_path / "list").write_bytes(b"0 ||| a|N b|N c|N d|N  ||| LM0= -1 TM0= -2 -3 ||| 1\n")
    (tmp_path / "r").write_bytes(b"a b c d\n")
    assert nbest_bleu(tmp_path / "list", tmp_path / "r", WEIGHTS) == pytest.approx(100)


@pytest.mark.moses
def test_weights_are_learned_by_the_surface(moses, tmp_path):
    """The extractor counts n-grams of surface words: all of a perfect hypothesis' are right."""
    hypotheses = b"x|N x|N x|N x|N x|N", b"a|N b|N c|N d|N e|N"
    lines = (b"0 ||| %b ||| LM0= -%d ||| 1\n" % (h, n) for n, h in enumerate(hypotheses, 1))
    (tmp_path / "list").write_bytes(b"".join(lines))
    (tmp_path / "r").write_bytes(b"a b c d e\n")
    settings = TuningSettings(optimizer="mira")
    learn_weights(moses, tmp_path / "list", tmp_path / "r", tmp_path, {"LM0": (1.0,)}, settings)
    counts = (tmp_path / "scores.dat").read_text().splitlines()[1:3]
    assert [line.split() for line in counts] == [
        ["0", "5", "0", "4", "0", "3", "0", "2", "5"], ["5", "5", "4", "4", "3", "3", "2", "2", "5"]
    ]  # fmt: skip


@pytest.mark.moses
def test_a_list_from_which_nothing_can_be_learned(moses, tmp_path):
    (tmp_path / "list").write_bytes(b"0 ||| a ||| LM0= -1 ||| 1\n0 ||| b ||| LM0= -1 ||| 1\n")
    (tmp_path / "r").write_bytes(b"a b c d e\n")
    with pytest.raises(ProgramError) as caught:
        learn_weights(moses, tmp_path / "list", tmp_path / "r", tmp_path, {"LM0": (1.0,)},
                      TuningSettings(optimizer="mira"))  # fmt: skip
    log = tmp_path / "rescore-nbest.log"
    assert str(caught.value) == f"kbmira found no weights; its log is {log}"


def test_weights_are_read_as_written(tmp_path, decoder_weights):
    weights = {"LM0": (0.25,), "TM0": (-0.5, 1e-7), "TM_é": (3.0,)}
    write_weights(tmp_path / "w", weights)
    assert read_weights(tmp_path / "w") == weights
    assert read_weights(DATA / "moses.ini") == decoder_weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"LM0= 1\nTM0 1\n", ':2: not a line of weights, Name= 0.2 0.2: "TM0 1"'),
        *(
            (
                f"LM0= 1 {text}\n".encode(),
                f':1: not a line of weights, Name= 0.2 0.2: "LM0= 1 {text}"',
            )
            for text in ("nan", "inf", "1_0", "1e999")
        ),
        (b"LM0= x\n", ':1: not a line of weights, Name= 0.2 0.2: "LM0= x"'),
        (b"LM0=\n", ':1: not a line of weights, Name= 0.2 0.2: "LM0="'),
        (b"# nothing\n", ": no weights in it"),
        (b"LM0= 0x1\n", ':1: not a line of weights, Name= 0.2 0.2: "LM0= 0x1"'),
        (b"LM0= 1\nTM0= 2\nLM0= 2\n", ':3: LM0 has weights already: "LM0= 2"'),
    ],
)
def test_broken_weights(text, message, tmp_path):
    (tmp_path / "w").write_bytes(text)
    with pytest.raises(DataError) as caught:
        read_weights(tmp_path / "w")
    assert str(caught.value) == f"{tmp_path}/w{message}"


def test_output_onto_input(tmp_path):
    (tmp_path / "list").write_bytes(LIST)
    with pytest.raises(DataError, match="the output would overwrite the input"):
        rerank(tmp_path / "list", WEIGHTS, tmp_path / "list")


@pytest.fixture(scope="session")
def enlarged(moses_model, tmp_path_factory):
    """An n-best list of data/'s model with a feature that knows the answer."""
    folder = tmp_path_factory.mktemp("nbest")
    ini, source = moses_model / "old" / "moses.ini", moses_model / "tune.en"
    arguments = ["--input", str(source), "--output", str(folder / "o"), "--quiet"]
    options = ["--nbest", str(folder / "nbest"), "30", "--distinct"]
    assert main(["decode", "--moses-ini", str(ini), *arguments, *options]) == 0
    references = [set(s.split()) for s in (moses_model / "tune.fr").read_bytes().split(b"\n")]

    def overlap(items):
        return np.array([len(references[h.sentence] & set(h.words)) for _, h in items], float)

    features = [NBestFeature("Oracle0", overlap)]
    add_features(folder / "nbest", source, folder / "more", features, show_progress=False)
    return folder / "more"


@pytest.mark.moses
@pytest.mark.parametrize("optimizer", ["mira", "mert"])
def test_weights_are_learned_from_the_enlarged_list(
    optimizer, enlarged, moses, moses_model, tmp_path
):
    start = weights_of(MosesIni.read(moses_model / "old" / "moses.ini"))
    reference = moses_model / "tune.fr"
    settings = TuningSettings(optimizer=optimizer)
    weights = learn_weights(moses, enlarged, reference, tmp_path, start, settings)
    assert sum(abs(v) for values in weights.values() for v in values) == pytest.approx(1.0)
    assert len(weights["TranslationModel0"]) == 4
    assert weights["Oracle0"][0] > 0.02
    before, after = nbest_bleu(enlarged, reference, None), nbest_bleu(enlarged, reference, weights)
    assert after > before + 1
    header = (tmp_path / "features.dat").read_text().splitlines()[0]
    assert header.split()[-1] == "Oracle0_0"  # the extractor read it as one more dense feature
    assert (tmp_path / "rescore-nbest.log").read_text().startswith("# Moses ")


@pytest.mark.moses
def test_the_commands(enlarged, moses_model, tmp_path, capsys):
    work = tmp_path / "work"
    ini, reference = moses_model / "old" / "moses.ini", moses_model / "tune.fr"
    arguments = ["tune", "--rescore-nbest", str(enlarged), "--moses-ini", str(ini)]
    options = ["--reference", str(reference), "--working-dir", str(work), "--optimizer", "mira"]
    assert main([*arguments, *options]) == 0
    assert "BLEU of the best hypotheses: " in capsys.readouterr().out
    best = tmp_path / "best"
    command = ["nbest", str(enlarged), "--rerank", str(work / "weights"), "--output", str(best)]
    assert main(command) == 0
    assert len(best.read_bytes().splitlines()) == len(reference.read_bytes().splitlines())
    assert main([*arguments, *options]) == 2
    said = f"error: --working-dir {work} is not empty; choose a new folder\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.moses
def test_lists_that_do_not_fit_the_reference(moses, tmp_path):
    reference = tmp_path / "r"
    reference.write_bytes(b"a\nb\n")
    (tmp_path / "list").write_bytes(b"0 ||| a ||| LM0= -1 ||| -1\n2 ||| a ||| LM0= -1 ||| -1\n")
    for text, message in (
        (LIST, "4: sentence 1 is missing"),
        (LIST.split(b"\n")[0], " 1 sentences, but {r} has 2 lines"),
        (b"", " the n-best list is empty"),
    ):
        (tmp_path / "list").write_bytes(text)
        with pytest.raises(DataError) as caught:
            learn_weights(moses, tmp_path / "list", reference, tmp_path, {}, TuningSettings())
        assert str(caught.value) == f"{tmp_path}/list:{message.format(r=reference)}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--whole-list"], "--whole-list needs --rerank WEIGHTS"),
        (["--rerank", "w", "--model", "m"], "--rerank adds no features; do that first"),
        ([], "give --source FILE, the text that was decoded"),
        (["--source", "s"], "give --model, --inverse-model, --lm or --cslm; or --rerank WEIGHTS"),
        (["--source", "s", "--model", "m", "--name", "A", "--name", "B"],
         "--name is given twice, but there is one new feature"),
        (["--source", "s", "--model", "m", "--lm", "l", "--name", "A", "--name", "A"],
         "two features are called A; give --name for each"),
        (["--source", "s", "--lm", "l", "--unknown-words"],
         "--unknown-words needs a model, whose shortlist it is"),
        (["--source", "s", "--lm", "l", "--unknown-words", "--unknown-words-of", "d"],
         "--unknown-words or --unknown-words-of DIR, not both"),
    ],
)  # fmt: skip
def test_usage_errors(arguments, message, capsys):
    assert main(["nbest", "list", *arguments]) == UsageError.exit_code
    assert capsys.readouterr().err == f"error: {message}\n"


def test_outputs_onto_inputs_are_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("list", "s"):
        (tmp_path / name).touch()
    for arguments, output in (
        (["--source", "s", "--model", "none"], "list"),
        (["--source", "s", "--model", "none"], "s"),
        (["--rerank", "s"], "s"),
    ):
        assert main(["nbest", "list", *arguments, "--output", output]) == DataError.exit_code
        message = f"error: {output}: the output would overwrite the input\n"
        assert capsys.readouterr().err == message
