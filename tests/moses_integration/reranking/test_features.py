"""Features of hypotheses: against the scorer pair by pair, kenlm, and the table's own column."""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
from toys import GOLDEN as ALL_GOLDEN
from toys import parameters_of, save_model

from moses_integration.cli import main
from moses_integration.formats.nbest import read_nbest
from moses_integration.reranking import features as nbest_features
from moses_integration.reranking.features import (
    NBestFeature,
    add_features,
    continuous_space_feature,
    language_model_feature,
    phrase_feature,
    sentence_feature,
)
from moses_integration.rescoring.columns import translation_column, unknown_words_column
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.language_model.model import LanguageModel
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring import reference
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import END

GOLDEN = ALL_GOLDEN / "nbest"
CONSTANT = NBestFeature("One0", lambda items: np.ones(len(items)))


def added(name: str, features: list[NBestFeature], tmp_path: Path) -> list:
    add_features(GOLDEN / name, GOLDEN / "source.en", tmp_path / "out", features,
                 show_progress=False)  # fmt: skip
    return [h for group in read_nbest(tmp_path / "out") for h in group]


@pytest.fixture(scope="session")
def sources() -> list[str]:
    return (GOLDEN / "source.en").read_text().split("\n")


def test_whole_sentences(scorer, sources, tmp_path):
    feature = sentence_feature("RNN0", translation_column(scorer).values)
    hypotheses = added("moses2", [feature], tmp_path)
    pairs = [(sources[h.sentence], b" ".join(h.words)) for h in hypotheses]
    expected = scorer.score(pairs)
    found = [h.features[b"RNN0"][0] for h in hypotheses]
    assert found == pytest.approx(expected.tolist(), abs=2e-4)
    assert len(set(found)) > 3


def test_sums_over_phrases(scorer, sources, tmp_path):
    feature = phrase_feature("RNN0", translation_column(scorer).values)
    for hypothesis in added("all-fields", [feature], tmp_path):
        source = sources[hypothesis.sentence].split()
        pairs = [
            (source[first:end], [word.decode() for word in hypothesis.words[start:stop]])
            for (first, end), (start, stop) in hypothesis.segmentation(len(source))
        ]
        expected = float(scorer.score(pairs).sum()) if pairs else 0.0
        assert hypothesis.features[b"RNN0"] == [pytest.approx(expected, rel=1e-4, abs=1e-3)]


def test_unknown_words(scorer, tmp_path):
    feature = sentence_feature("WP0", unknown_words_column(scorer).values)
    known = {bytes(word) for word in scorer.target_vocabulary.words}
    for hypothesis in added("plain", [feature], tmp_path):
        count = sum(word not in known for word in hypothesis.words)
        assert hypothesis.features[b"WP0"] == [-count]


def test_blocks_change_nothing(scorer, tmp_path, monkeypatch):
    feature = sentence_feature("RNN0", translation_column(scorer).values)
    whole = [h.fields for h in added("plain", [feature, CONSTANT], tmp_path)]
    monkeypatch.setattr(nbest_features, "BLOCK_HYPOTHESES", 2)
    assert [h.fields for h in added("plain", [feature, CONSTANT], tmp_path)] == whole


ODD = GOLDEN / "odd"


@pytest.fixture(scope="session")
def english(tmp_path_factory) -> PhraseScorer:
    """A model from the lists' English to their French."""
    path = tmp_path_factory.mktemp("models") / "english"
    words = b"the house well blue a".split(), b"la maison bleue bien les".split()
    return PhraseScorer.load(save_model(path, *words), "cpu")


def truth(scorer: PhraseScorer, *pairs: tuple[str, str]) -> float:
    """The sum of the float64 reference over pairs."""
    parameters, total = parameters_of(scorer.model), 0.0
    for pair in pairs:
        ids = [
            [*map(vocabulary.id, text.encode().split()), END]
            for vocabulary, text in zip(scorer.vocabularies.values(), pair, strict=True)
        ]
        total += reference.log_prob(parameters, *ids, scorer.model.config.variant)
    return total


HOUSE = ("the house", "la maison")


@pytest.mark.parametrize(
    ("name", "line", "pairs"),
    [
        ("empty", 0, [HOUSE, ("well", ""), HOUSE]),
        ("empty", 2, [HOUSE, ("well", ""), ("the", "la"), ("house", "maison")]),
        ("empty", 4, [("well", ""), HOUSE]),
        ("empty", 6, [("well", ""), ("the", ""), ("house", "maison")]),
        ("empty", 7, [("well", "")]),
        ("empty", 13, []),
        ("dropped", 8, [("the", "la"), ("zzz", ""), ("blue", "bleue")]),
        ("dropped", 11, [("zzz", "")]),
        ("all-factors", 4, [("well", ""), HOUSE]),
        ("all-factors", 9, [("the", "la"), ("zzz", "zzz"), ("blue", "bleue")]),
        ("factored", 0, [HOUSE, ("well", ""), HOUSE]),
        ("factored", 4, [("zzz", "zzz"), ("the", "la")]),
    ],
)
def test_phrases_of_odd_lists(name, line, pairs, english, tmp_path):
    """Empty targets, dropped words and factors as moses writes them, against the reference."""
    source = ODD / ("source.factored.en" if name == "factored" else "source.en")
    out = tmp_path / "out"
    feature = phrase_feature("RNN0", translation_column(english).values)
    add_features(ODD / name, source, out, [feature], show_progress=False)
    found = [h for group in read_nbest(out) for h in group]
    assert found[line].features[b"RNN0"] == [pytest.approx(truth(english, *pairs), abs=1e-4)]
    without = re.sub(rb" RNN0= \S+ (?=\|)", b" ", out.read_bytes())
    assert without.replace(b"  |||", b" |||") == (ODD / name).read_bytes().replace(
        b"  |||", b" |||"
    )


@pytest.mark.parametrize(
    ("name", "line", "pair"),
    [
        ("empty", 7, ("well", "")),  # p(end | well)
        ("empty", 13, ("", "")),
        ("dropped", 11, ("zzz", "")),
        ("all-factors", 9, ("the zzz blue", "la zzz bleue")),
        ("factored", 0, ("the house well the house", "la maison la maison")),
        ("factored", 7, ("well", "")),
    ],
)
def test_sentences_of_odd_lists(name, line, pair, english, tmp_path):
    source = ODD / ("source.factored.en" if name == "factored" else "source.en")
    features = [
        sentence_feature("RNN0", translation_column(english).values),
        sentence_feature("WP0", unknown_words_column(english).values),
    ]
    add_features(ODD / name, source, tmp_path / "out", features, show_progress=False)
    found = [h.features for group in read_nbest(tmp_path / "out") for h in group][line]
    assert found[b"RNN0"] == [pytest.approx(truth(english, pair), abs=1e-4)]
    assert found[b"WP0"] == [-float("zzz" in pair[1])]


@pytest.mark.parametrize("level", [phrase_feature, sentence_feature])
def test_factors_change_no_value(level, english, tmp_path):
    """A list without factors, and the same with some in list and source."""
    feature = level("RNN0", translation_column(english).values)
    plain, factored = tmp_path / "plain", tmp_path / "factored"
    text = (ODD / "dropped").read_bytes()
    plain.write_bytes(text)
    factored.write_bytes(text.replace(b"maison", b"maison|N|0").replace(b" la ", b" la|D|1 "))
    source = tmp_path / "source"
    source.write_bytes((ODD / "source.en").read_bytes().replace(b"house", b"house|NN"))
    found = []
    for path, text in ((plain, ODD / "source.en"), (factored, source)):
        add_features(path, text, tmp_path / "out", [feature], show_progress=False)
        found.append([h.features for group in read_nbest(tmp_path / "out") for h in group])
    assert found[0] == found[1]


def test_an_inverse_model_scores_empty_hypotheses(tmp_path):
    words = b"the house well blue a".split(), b"la maison bleue bien les".split()
    scorer = PhraseScorer.load(save_model(tmp_path / "m", *words, direction="inverse"), "cpu")
    values = translation_column(scorer, wanted="inverse").values
    features = [phrase_feature("A", values), sentence_feature("B", values)]
    add_features(ODD / "empty", ODD / "source.en", tmp_path / "out", features, show_progress=False)
    found = [h.features for group in read_nbest(tmp_path / "out") for h in group]
    empty = truth(scorer, ("", "well"))
    assert found[7][b"A"] == found[7][b"B"] == [pytest.approx(empty, abs=1e-4)]
    house = truth(scorer, ("la maison", "the house"))
    assert found[4][b"A"] == [pytest.approx(empty + house, abs=1e-4)]


def test_words_hold_what_is_no_blank_to_moses(english, tmp_path):
    """FF, VT, CR, U+0085, U+00A0 inside words of list and source; CR at the end of a source."""
    (tmp_path / "s").write_bytes("the\x0cb x\ry \x0b th\xa0e\r\n".encode())
    (tmp_path / "l").write_bytes(
        "0 ||| la\x0cb x\ry \x0b th\xa0e ||| A= 1 ||| 1 ||| 0=0 1-3=1-3\n".encode()
    )
    values = translation_column(english).values
    features = [phrase_feature("RNN0", values), sentence_feature("RNN1", values)]
    add_features(tmp_path / "l", tmp_path / "s", tmp_path / "o", features, show_progress=False)
    found = next(read_nbest(tmp_path / "o"))[0].features
    phrases = truth(english, ("u", "u"), ("u u u", "u u u"))
    assert found[b"RNN0"] == [pytest.approx(phrases, abs=1e-4)]
    assert found[b"RNN1"] == [pytest.approx(truth(english, ("u u u u", "u u u u")), abs=1e-4)]


ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.2
-1.0\t</s>
-0.7\tla\t-0.1
-0.9\tmaison

\\2-grams:
-0.3\t<s> la
-0.4\tla maison

\\end\\
"""


def test_language_model(tmp_path):
    """Worked by hand: <s> la maison bleue </s>, back-offs 0 where none is written."""
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    (tmp_path / "lm.arpa").write_text(ARPA)
    feature = language_model_feature("LM1", tmp_path / "lm.arpa")
    first = added("plain", [feature], tmp_path)[0]
    assert first.words == [b"la", b"maison", b"bleue"]
    expected = (-0.3 - 0.4 - 1.5 - 1.0) * math.log(10)
    assert first.features[b"LM1"] == [pytest.approx(expected, rel=1e-5)]


def test_a_language_model_reads_words_as_moses_does(tmp_path):
    """The surface of factors, words with FF or CR in them, no word, words that are not UTF-8."""
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    (tmp_path / "lm.arpa").write_text(ARPA)
    hypotheses = [b"la|D maison|N", b"la\x0cmaison", b"la maison\rla", b"", b"la \xff", b"\xff\x0c"]
    rest = b" ||| A= 1 ||| 1"
    lines = [b"%d ||| %b%b\n" % (n, text, rest) for n, text in enumerate(hypotheses)]
    (tmp_path / "list").write_bytes(b"".join(lines))
    (tmp_path / "s").write_bytes(b"a\n" * len(lines))
    feature = language_model_feature("LM1", tmp_path / "lm.arpa")
    add_features(tmp_path / "list", tmp_path / "s", tmp_path / "o", [feature], show_progress=False)
    found = [group[0].features[b"LM1"][0] / math.log(10) for group in read_nbest(tmp_path / "o")]
    expected = [
        -0.3 - 0.4 - 1.0,  # <s> la maison </s>
        -0.2 - 1.5 - 1.0,  # <s> <unk> </s>
        -0.3 - 0.1 - 1.5 - 1.0,  # <s> la <unk> </s>
        -0.2 - 1.0,  # <s> </s>
        -0.3 - 0.1 - 1.5 - 1.0,
        -0.2 - 1.5 - 1.0,
    ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_continuous_space_model_reads_the_surface(tmp_path):
    """And gives an empty hypothesis the ln p of the end alone."""
    sizes = {"architecture": "cslm", "order": 3, "hidden": 4, "second_hidden": 3}
    path = save_model(tmp_path / "cslm", [], b"la maison bleue".split(), **sizes)
    feature = continuous_space_feature("CSLM0", path, Arithmetic("cpu"))
    source = ODD / "source.factored.en"
    add_features(ODD / "factored", source, tmp_path / "o", [feature], show_progress=False)
    found = [h.features[b"CSLM0"][0] for group in read_nbest(tmp_path / "o") for h in group]
    model = LanguageModel.load(path)
    texts = [b"la maison la maison".split(), b"zzz la".split(), []]
    assert [found[0], found[4], found[7]] == pytest.approx(model.score(texts).tolist(), rel=1e-5)


def test_a_value_that_is_not_finite_is_refused(tmp_path):
    feature = NBestFeature("RNN0", lambda items: np.array([1.0, np.nan] + [0.0] * len(items)))
    with pytest.raises(DataError) as caught:
        added("plain", [feature], tmp_path)
    what = "the value of RNN0 would be nan: a broken model?"
    assert str(caught.value) == f"{GOLDEN}/plain:2: {what}"
    assert not (tmp_path / "out").exists()


def test_many_unknown_words_are_told(run, english, model_path, tmp_path):
    """As by rescore, before they are scored; the second model is of other languages."""
    arguments = ["nbest", ODD / "factored", "--source", ODD / "source.factored.en", "--quiet"]
    arguments += ["--output", tmp_path / "o", "--level", "phrase", "--model", english._path]
    assert run(*arguments) == (0, "", "8 hypotheses scored\n")
    why = "casing, another language, or other tokenisation or escaping than in training?"
    assert run(*arguments, "--model", model_path) == (0, "", "".join(
        f"warning: 100% of the first {side} words are unknown to the model RNN1 ({words} …): "
        f"other {why}\n"
        for side, words in (("25 source", "the house well zzz"), ("20 target", "la maison zzz"))
    ) + "8 hypotheses scored\n")  # fmt: skip


def test_no_escape_sequence_reaches_the_terminal(run, model_path, tmp_path):
    (tmp_path / "list").write_bytes(b"0 ||| \x1b[31m \xff ||| A= 1 ||| 1\n")
    (tmp_path / "s").write_bytes(b"\x1b[2J\n")
    arguments = ["nbest", tmp_path / "list", "--source", tmp_path / "s", "--quiet"]
    _, _, said = run(*arguments, "--model", model_path, "--output", tmp_path / "o")
    assert r"(\x1b[2J …)" in said
    assert r"(\x1b[31m \xff …)" in said
    (tmp_path / "w").write_bytes(b"A= 1\nB\x1b[31m= 1\n")
    arguments = ["nbest", tmp_path / "list", "--rerank", tmp_path / "w"]
    said = "warning: weights for what the list has not: B\\x1b[31m\n1 sentences reranked\n"
    assert run(*arguments, "--output", tmp_path / "o") == (0, "", said)


def test_no_language_model(tmp_path):
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    (tmp_path / "lm").write_text("no ARPA")
    with pytest.raises(DataError) as caught:
        language_model_feature("LM1", tmp_path / "lm")
    assert str(caught.value) == f"{tmp_path}/lm: not a language model that KenLM reads"


def test_gz_in_and_out(tmp_path):
    (tmp_path / "in.gz").write_bytes(gzip.compress((GOLDEN / "plain").read_bytes()))
    lines = add_features(tmp_path / "in.gz", GOLDEN / "source.en", tmp_path / "out.gz", [CONSTANT],
                         show_progress=False)  # fmt: skip
    written = gzip.decompress((tmp_path / "out.gz").read_bytes())
    assert lines == 16
    assert written.replace(b" One0= 1", b"") == (GOLDEN / "plain").read_bytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"4 ||| a ||| LM0= 1 ||| 1",
         '2: sentence 4, but the source has 4 (they count from 0): "4"'),
        (b"3 ||| a ||| LM0= 1 One0= 2 ||| 1",
         "2: the feature One0 is there already; choose another --name"),
        (b"3 ||| a ||| LM0= 1 One0=\t2 ||| 1",
         "2: the feature One0 is there already; choose another --name"),
    ],
)  # fmt: skip
def test_refused_lines(line, message, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"1 |||  ||| LM0= 1 ||| 1\n" + line + b"\n")
    with pytest.raises(DataError) as caught:
        add_features(path, GOLDEN / "source.en", tmp_path / "out", [CONSTANT], show_progress=False)
    assert str(caught.value) == f"{path}:{message}"
    assert [p.name for p in tmp_path.iterdir()] == ["list"]


def test_a_segmentation_that_does_not_fit(scorer, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"0 ||| a ||| LM0= 1 ||| 1 ||| 0-3=0\n")
    feature = phrase_feature("RNN0", translation_column(scorer).values)
    with pytest.raises(DataError) as caught:
        add_features(path, GOLDEN / "source.en", tmp_path / "out", [feature], show_progress=False)
    assert str(caught.value) == (
        f'{path}:1: the segmentation does not fit 3 source and 1 target words: "0-3=0"'
    )


def test_refused_names_and_files(tmp_path):
    (tmp_path / "list").write_bytes(b"")
    for features, output, message in (
        ([CONSTANT, CONSTANT], "out", "two features are called One0; give --name for each"),
        ([CONSTANT], "list", f"{tmp_path}/list: the output would overwrite the input"),
    ):
        with pytest.raises((UsageError, DataError)) as caught:
            add_features(tmp_path / "list", GOLDEN / "source.en", tmp_path / output, features,
                         show_progress=False)  # fmt: skip
        assert str(caught.value) == message


@pytest.mark.moses
def test_the_phrase_sum_is_the_tables_own_column(moses_model, tmp_path):
    """Decoded with the column: the sum from the segmentation is the column's value in the list."""
    nbest, out = tmp_path / "nbest.gz", tmp_path / "out.gz"
    ini, source = moses_model / "new" / "moses.ini", moses_model / "tune.en"
    arguments = ["--input", str(source), "--output", str(tmp_path / "o"), "--quiet"]
    options = ["--nbest", str(nbest), "10", "--segmentation"]
    assert main(["decode", "--moses-ini", str(ini), *arguments, *options]) == 0
    options = ["--level", "phrase", "--name", "RNN0", "--output", str(out), "--quiet"]
    model = ["--model", str(moses_model / "rnn")]
    assert main(["nbest", str(nbest), "--source", str(source), *model, *options]) == 0
    table = gzip.decompress((moses_model / "new" / "phrase-table.gz").read_bytes())
    entries = {tuple(line.split(b" ||| ")[:2]) for line in table.splitlines()}
    sentences = [line.split() for line in source.read_bytes().split(b"\n")]
    compared = 0
    for hypothesis in (h for group in read_nbest(out) for h in group):
        words = sentences[hypothesis.sentence]
        used = {
            (b" ".join(words[slice(*first)]), b" ".join(hypothesis.words[slice(*second)]))
            for first, second in hypothesis.segmentation(len(words))
        }
        if used <= entries:  # no word was passed through untranslated
            column = hypothesis.features[b"TranslationModel0"][4]
            assert hypothesis.features[b"RNN0"] == [pytest.approx(column, rel=2e-4, abs=2e-3)]
            compared += 1
    assert compared > 50
