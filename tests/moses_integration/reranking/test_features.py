"""Features of hypotheses: against the scorer pair by pair, kenlm, and the table's own column."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.cli import main
from moses_integration.formats.nbest import read_nbest
from moses_integration.reranking import features as nbest_features
from moses_integration.reranking.features import (
    NBestFeature,
    add_features,
    language_model_feature,
    phrase_feature,
    sentence_feature,
)
from moses_integration.rescoring.columns import translation_column, unknown_words_column
from phrase_scorer.errors import DataError, UsageError

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
            for (first, end), (start, stop) in hypothesis.segmentation
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
        (b"3 |||  ||| LM0= 1 ||| 1", "2: empty hypothesis of a sentence that is not empty"),
        (b"3 ||| a ||| LM0= 1 One0= 2 ||| 1",
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
            for first, second in hypothesis.segmentation
        }
        if used <= entries:  # no word was passed through untranslated
            column = hypothesis.features[b"TranslationModel0"][4]
            assert hypothesis.features[b"RNN0"] == [pytest.approx(column, rel=2e-4, abs=2e-3)]
            compared += 1
    assert compared > 50
