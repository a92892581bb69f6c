"""train-lm, perplexity, export-arpa, nbest --cslm: as a user meets them, and with real Moses."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from toys import DATA
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.cli import main
from moses_integration.formats.ini_edits import with_language_model
from moses_integration.formats.moses_ini import MosesIni
from moses_integration.formats.nbest import read_nbest
from phrase_scorer.errors import DataError
from phrase_scorer.language_model.arpa import read_arpa
from phrase_scorer.language_model.export import SharedVocabulary
from phrase_scorer.language_model.model import LanguageModel

GOLDEN = ALL_GOLDEN / "nbest"
SIZES = ["--embedding", "6", "--hidden", "10", "--second-hidden", "8", "--order", "5"]
TRAIN = [
    *SIZES,
    "--max-updates",
    "12",
    "--batch-sentences",
    "50",
    "--validate-every",
    "4",
    "--quiet",
]


@pytest.fixture(scope="module")
def cslm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the project's own French text, hardly trained."""
    path = tmp_path_factory.mktemp("lm") / "cslm"
    text = DATA / "corpus" / "train.fr"
    assert main(["train-lm", str(text), "--model", str(path), *TRAIN]) == 0
    return path


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    pytest.importorskip("kenlm", reason="the package kenlm is not installed")
    path = tmp_path / "lm.arpa"
    path.write_bytes(gzip.decompress((DATA / "model" / "lm.fr.arpa.gz").read_bytes()))
    return path


def test_training_is_resumed_and_described(run, cslm, tmp_path):
    code, out, _ = run("info", cslm, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["architecture"], facts["order"], facts["updates"]) == ("cslm", 5, 12)
    text = DATA / "corpus" / "train.fr"
    assert run("train-lm", text, "--model", cslm, *TRAIN, "--resume")[0] == 0
    code, _, error = run("train-lm", text, "--model", cslm, *TRAIN)
    assert (code, error) == (
        2, f"error: {cslm} holds a model; --resume continues it, --overwrite replaces it\n"
    )  # fmt: skip


def test_perplexity(run, cslm, arpa):
    text = DATA / "corpus" / "tune.fr"
    code, out, _ = run("perplexity", "--model", cslm, text, "--arpa", arpa, "--json")
    assert code == 0
    own, over_file, ngrams, mixed = json.loads(out)
    model = LanguageModel.load(cslm)
    sentences = [line.split() for line in text.read_bytes().splitlines()]
    symbols = sum(map(len, sentences)) + len(sentences)
    assert own["symbols"] == symbols
    assert own["all"] == pytest.approx(math.exp(-model.score(sentences).sum() / symbols), rel=1e-6)
    assert mixed["all"] <= min(over_file["all"], ngrams["all"]) + 1e-3
    code, out, _ = run("perplexity", "--model", cslm, text)
    assert f"{own['all']:.2f}" in out
    assert out.startswith(f"{symbols:,} symbols with end symbols\n")


def test_export_and_its_moses_ini(run, cslm, arpa, tmp_path):
    ini, new, output = DATA / "moses.ini", tmp_path / "new.ini", tmp_path / "cslm.arpa.gz"
    code, _, error = run(
        "export-arpa", "--model", cslm, "--arpa", arpa, "-o", output,
        "--moses-ini", ini, "--moses-ini-out", new, "--start-weight", 0.2, "--quiet",
    )  # fmt: skip
    assert code == 0
    assert error.endswith(f"{new}: one more KENLM; tune it\n")
    folder = os.path.relpath(DATA, tmp_path)  # relative paths hold from the new file's folder
    text = ini.read_text().replace("path=model/", f"path={folder}/model/")
    before, after = text.splitlines(), new.read_text().splitlines()
    added = [line for line in after if line not in before]
    assert added == [f"KENLM name=LM1 factor=0 path={output} order=4", "LM1= 0.2"]
    assert [line for line in after if line not in added] == before
    assert after.index(added[0]) == before.index(next(b for b in before if "name=LM0" in b)) + 1
    code, out, _ = run(
        "perplexity", "--model", cslm, DATA / "corpus" / "tune.fr", "--arpa", arpa, "--arpa",
        output, "--json",
    )  # fmt: skip
    exported = json.loads(out)[4]
    assert (code, exported["model"]) == (0, str(output))


def test_export_with_n_grams_of_texts_and_n_best_lists(run, cslm, arpa, tmp_path):
    """The network is heard at every n-gram of them whose words the file knows."""
    text = tmp_path / "text"
    text.write_text("vélo homme chat homme vélo\nchat chat chat\n")
    arguments = ("export-arpa", "--model", cslm, "--arpa", arpa, "-o")
    assert run(*arguments, tmp_path / "plain.arpa")[0] == 0
    code, _, error = run(
        *arguments, tmp_path / "more.arpa", "--nbest", GOLDEN / "moses2", "--text", text
    )
    assert code == 0
    added, _, rest = error.partition(" ")
    assert rest.startswith(f"more n-grams, of {text}, {GOLDEN / 'moses2'}\n")
    plain, more = (read_arpa(tmp_path / f"{name}.arpa") for name in ("plain", "more"))
    sizes = [sum(map(len, file.orders)) for file in (plain, more)]
    assert sizes[1] - sizes[0] == int(added.replace(",", "")) > 20
    sentences = [line.split() for line in text.read_bytes().splitlines()]
    sentences += [h.words for group in read_nbest(GOLDEN / "moses2") for h in group]
    network = SharedVocabulary(LanguageModel.load(cslm), more)
    stored = {tuple(more.words[w] for w in words) for o in more.orders for words in o.words}
    known = {word for (word,) in (n for n in stored if len(n) == 1)} - {b"<unk>"}
    for sentence in sentences:
        words = [b"<s>", *sentence, b"</s>"]
        for order in range(2, len(more.orders) + 1):
            for first in range(len(words) - order + 1):
                window = tuple(words[first : first + order])
                assert (window in stored) == known.issuperset(window)
    last = more.orders[-1]
    expected = network.log_probs(last.words[:, :-1], np.arange(len(last)), last.words[:, -1])
    np.testing.assert_allclose(last.log10 * math.log(10), expected, atol=1e-5)


def test_export_of_frequent_n_grams_and_of_a_mixture(run, cslm, arpa, tmp_path):
    text = tmp_path / "text"
    text.write_text("vélo homme chat\nvélo homme vélo\n")
    arguments = ("export-arpa", "--model", cslm, "--arpa", arpa, "-o")
    for name, options in {
        "once": (), "twice": ("--min-count", 2), "mixed": ("--share", 0.25),
    }.items():  # fmt: skip
        assert run(*arguments, tmp_path / name, "--text", text, *options)[0] == 0
    once, twice, mixed = (read_arpa(tmp_path / name) for name in ("once", "twice", "mixed"))
    assert len(once.orders[1]) > len(twice.orders[1])
    given = read_arpa(arpa)
    for network, file, both in zip(once.orders, given.orders, mixed.orders, strict=True):
        wanted = 0.25 * 10 ** network.log10[: len(file)] + 0.75 * 10**file.log10
        is_word = file.words[:, -1] != given.words.index(b"<s>")
        found = 10 ** both.log10[: len(file)]
        np.testing.assert_allclose(found[is_word], wanted[is_word], rtol=1e-5)
        assert (found[~is_word] < 1e-90).all()


def test_feature_of_an_nbest_list(run, cslm, tmp_path):
    source = GOLDEN / "source.en"
    output = tmp_path / "out"
    code, _, error = run(
        "nbest",
        GOLDEN / "moses2",
        "--source",
        source,
        "--cslm",
        cslm,
        "--output",
        output,
        "--quiet",
    )
    assert (code, error.split()[1:]) == (0, ["hypotheses", "scored"])
    hypotheses = [h for group in read_nbest(output) for h in group]
    expected = LanguageModel.load(cslm).score([h.words for h in hypotheses])
    found = [h.features[b"CSLM0"][0] for h in hypotheses]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)
    assert len(set(found)) > 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "-"], 2, "--output needs a file, not -: KenLM reads it by name"),
        (["-o", "lm.arpa"], 1, "lm.arpa: the output would overwrite the input"),
        (["-o", "ini", "--text", "ini"], 1, "ini: the output would overwrite the input"),
        (["-o", "x", "--text", "no"], 1, "no: cannot read: No such file or directory"),
        (["-o", "x", "--nbest", "none"], 1, "none: the n-best list is empty"),
        (["-o", "x", "--min-count", "2"], 2, "--min-count needs --text or --nbest"),
        (["-o", "x", "--moses-ini", "ini"], 2, "--moses-ini and --moses-ini-out go together"),
        (
            ["-o", "x", "--moses-ini", "ini", "--moses-ini-out", "ini"],
            2,
            "--moses-ini-out would overwrite --moses-ini: ini",
        ),
        (
            ["-o", "x", "--moses-ini", "ini", "--moses-ini-out", "no/ini"],
            2,
            "--moses-ini-out: there is no folder no",
        ),
        (
            ["-o", "x", "--moses-ini", "empty", "--moses-ini-out", "new"],
            1,
            "empty: no [feature] in it",
        ),
    ],
)
def test_export_wrongly(run, cslm, arpa, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ini").write_bytes((DATA / "moses.ini").read_bytes())
    (tmp_path / "empty").write_text("[input-factors]\n0\n")
    (tmp_path / "none").touch()
    before = sorted(tmp_path.iterdir())
    found = run("export-arpa", "--model", cslm, "--arpa", "lm.arpa", *arguments)
    assert found == (code, "", f"error: {message}\n")
    assert sorted(tmp_path.iterdir()) == before


def test_other_models_and_texts(run, cslm, arpa, tmp_path, model_path):
    (tmp_path / "gap").write_text("un homme\n\nun chat\n")
    code, _, error = run("train-lm", tmp_path / "gap", "--model", tmp_path / "new")
    assert (code, error) == (1, f"error: {tmp_path}/gap:2: empty line\n")
    (tmp_path / "one").write_text("un homme\n")
    code, _, error = run("train-lm", tmp_path / "one", "--model", tmp_path / "new")
    assert (code, error) == (2, "error: one sentence is not enough to train and to validate on\n")
    assert not (tmp_path / "new").exists()
    code, _, error = run("perplexity", "--model", model_path, tmp_path / "one")
    assert (code, error) == (2, f"error: {model_path}: not a language model but encoder_decoder\n")
    (tmp_path / "broken").write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n")
    code, _, error = run("export-arpa", "--model", cslm, "--arpa", tmp_path / "broken", "-o", "x")
    assert (code, error) == (
        1, f"error: {tmp_path}/broken: cut short: \\end\\ is missing after the 1-grams\n"
    )  # fmt: skip


def test_one_more_language_model_in_an_ini():
    ini = MosesIni.parse(b"[feature]\nDistortion\nSRILM name=LM0 path=a order=3", "ini")
    edited = with_language_model(ini, "/b", 5, 0.1)
    assert edited.to_bytes() == (
        b"[feature]\nDistortion\nSRILM name=LM0 path=a order=3\n"
        b"KENLM name=LM1 factor=0 path=/b order=5\n\n[weight]\nLM1= 0.1\n"
    )
    without = MosesIni.parse(b"[feature]\nDistortion\n[weight]\nDistortion0= 1\n", "ini")
    assert with_language_model(without, "/b", 5, 0.1).to_bytes() == (
        b"[feature]\nDistortion\nKENLM name=LM0 factor=0 path=/b order=5\n[weight]\n"
        b"Distortion0= 1\nLM0= 0.1\n"
    )
    with pytest.raises(DataError):
        with_language_model(MosesIni.parse(b"[mapping]\n0 T 0\n", "ini"), "/b", 5, 0.1)


@pytest.mark.moses
def test_moses_reads_it_as_a_further_language_model(run, cslm, arpa, moses, moses_model, tmp_path):
    """The new feature's value in Moses' own n-best list is KenLM's sum for the hypothesis."""
    import kenlm

    folder = moses_model / "old"
    new, output = tmp_path / "new.ini", tmp_path / "cslm.arpa"
    code, *_ = run(
        "export-arpa", "--model", cslm, "--arpa", arpa, "-o", output,
        "--moses-ini", folder / "moses.ini", "--moses-ini-out", new, "--quiet",
    )  # fmt: skip
    assert code == 0
    nbest = tmp_path / "nbest"
    code, *_ = run(
        "decode", "--moses-ini", new, "--input", moses_model / "tune.en", "--output",
        tmp_path / "out", "--nbest", nbest, 5, "--quiet",
    )  # fmt: skip
    assert code == 0
    language_model = kenlm.Model(str(output))
    checked = 0
    for group in read_nbest(nbest):
        for hypothesis in group:
            expected = language_model.score(b" ".join(hypothesis.words).decode()) * math.log(10)
            found = hypothesis.features[b"LM1"][0]
            assert found == pytest.approx(expected, abs=1e-2)
            checked += 1
    assert checked > 10
