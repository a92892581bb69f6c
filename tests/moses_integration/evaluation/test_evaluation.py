"""Evaluation against sacreBLEU itself, slow resampling of the text, and enumerated shuffles."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
from itertools import product

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest
from toys import DATA

from moses_integration.evaluation.evaluation import (
    EvaluationSettings,
    evaluate,
    read_text,
    significance,
)
from moses_integration.evaluation.significance import METRICS, TOKENIZERS
from phrase_scorer.errors import DataError, UsageError

SAMPLES = 200
QUICK = EvaluationSettings(significance=False)


def noisy(lines: list[str], share: float, seed: int) -> list[str]:
    """Another translation: that share of the words dropped, doubled or exchanged with the next."""
    chance, made = random.Random(seed), []
    for line in lines:
        words = line.split()
        for place in range(len(words)):
            if chance.random() < share:
                change = chance.randrange(3)
                words[place] = ("", f"{words[place]} {words[place]}", words[place - 1])[change]
        made.append(" ".join(" ".join(words).split()))
    return made


@pytest.fixture(scope="module")
def reference() -> list[str]:
    return read_text(DATA / "corpus" / "test.fr")[:120]


@pytest.fixture(scope="module")
def outputs(reference) -> dict[str, list[str]]:
    shares = {"base": 0.12, "close": 0.13, "worse": 0.2}
    return {
        name: noisy(reference, share, seed) for seed, (name, share) in enumerate(shares.items())
    }


def single(outputs: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    return {name: [text] for name, text in outputs.items()}


def paired_test(outputs, references, kind: str, samples: int = SAMPLES, **bleu: object):
    """The results of sacreBLEU's own test: metric -> results, the baseline's first."""
    metrics = {
        "BLEU": BLEU(**{"tokenize": "none", "force": True, **bleu}), "chrF": CHRF(), "TER": TER()
    }  # fmt: skip
    return PairedTest(list(outputs.items()), metrics, references, kind, samples)()


# -- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenize", TOKENIZERS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_are_those_of_sacrebleu(tokenize, lowercase, reference, outputs):
    text = [line.title() + " (a-b, 3.5%)" for line in outputs["base"]]
    settings = EvaluationSettings(tokenize=tokenize, lowercase=lowercase, significance=False)
    (system,) = evaluate([reference], {"base": [text]}, settings=settings).systems
    expected = (
        sacrebleu.corpus_bleu(
            text, [reference], tokenize=tokenize, lowercase=lowercase, force=True
        ).score,
        CHRF(lowercase=lowercase).corpus_score(text, [reference]).score,
        sacrebleu.corpus_ter(text, [reference]).score,
    )  # fmt: skip
    assert tuple(system.scores[metric].mean for metric in METRICS) == expected


def test_several_references(reference, outputs):
    references = [reference, outputs["worse"], outputs["close"]]
    evaluation = evaluate(references, {"base": [outputs["base"]]}, settings=QUICK)
    expected = {
        "BLEU": sacrebleu.corpus_bleu(outputs["base"], references, tokenize="none", force=True),
        "chrF2": sacrebleu.corpus_chrf(outputs["base"], references),
        "TER": sacrebleu.corpus_ter(outputs["base"], references),
    }
    scores = evaluation.baseline.scores
    assert {name: scores[name].mean for name in METRICS} == {
        name: score.score for name, score in expected.items()
    }
    assert evaluation.references == 3
    assert evaluation.signatures["BLEU"].startswith("nrefs:3|case:mixed")
    words = expected["BLEU"].sys_len, expected["BLEU"].ref_len
    lengths = evaluation.baseline.lengths
    assert (lengths.words * 120, lengths.reference_words * 120) == pytest.approx(words)


def test_signatures_are_those_of_sacrebleu(reference, outputs):
    settings = EvaluationSettings(samples=7)
    ours = evaluate([reference], single(outputs), settings=settings).signatures
    theirs = [paired_test(outputs, [reference], kind, 7)[0] for kind in ("bs", "ar")]
    for name in METRICS:
        parts = [set(str(signatures[name]).split("|")) for signatures in theirs]
        assert set(ours[name].split("|")) == parts[0] | parts[1]


def test_detokenized_text_is_scored_as_if_it_had_been_written_so():
    tokenised = ["l' homme &quot; là @-@ bas &quot; , il dort .", "qu' est @-@ ce ?"]
    written = ['l\'homme "là-bas", il dort.', "qu'est-ce ?"]
    other = ["l' homme là @-@ bas , il dormait .", "quoi ?"]
    other_written = ["l'homme là-bas, il dormait.", "quoi ?"]
    settings = EvaluationSettings(detokenize="fr", significance=False)
    ours = evaluate([tokenised], {"a": [other]}, settings=settings)
    plain = EvaluationSettings(tokenize="13a", significance=False)
    expected = evaluate([written], {"a": [other_written]}, settings=plain)
    assert ours.systems == expected.systems
    assert "tok:13a" in ours.signatures["BLEU"]


def test_a_detokenized_text_can_be_tokenized_otherwise():
    settings = EvaluationSettings(detokenize="fr", tokenize="char")
    assert settings.tokenizer == "char"
    assert EvaluationSettings().tokenizer == "none"


def test_lengths_and_empty_lines_by_hand():
    evaluation = evaluate(
        [["a b c d", "e f", "g"]],
        {"a": [["a b c", "", "g h"], ["a b c d e", "e f", " "]]},
        settings=QUICK,
    )
    lengths = evaluation.baseline.lengths
    assert (lengths.words, lengths.reference_words, lengths.empty) == (2.0, 7 / 3, 2)
    assert lengths.ratio == pytest.approx(12 / 14)


def test_references_without_a_word():
    lengths = evaluate([["", ""]], {"a": [["a", ""]]}, settings=QUICK).baseline.lengths
    assert (lengths.ratio, lengths.words, lengths.empty) == (None, 0.5, 1)


# -- one run each: sacreBLEU's paired tests --------------------------------------------------------


@pytest.mark.parametrize("seed", [12345, 6])
def test_bootstrap_is_that_of_sacrebleu(seed, reference, outputs, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", str(seed))
    _, theirs = paired_test(outputs, [reference], "bs")
    settings = EvaluationSettings(samples=SAMPLES, seed=seed)
    ours = evaluate([reference], single(outputs), settings=settings)
    for name in METRICS:
        for system, expected in zip(ours.systems, theirs[name], strict=True):
            score = system.scores[name]
            assert score.mean == expected.score
            low, high = score.interval
            assert (high - low) / 2 == pytest.approx(expected.ci, abs=1e-4)  # theirs: float32
            if expected.p_value is not None:
                assert score.comparison.p_bootstrap == expected.p_value


def test_randomisation_is_that_of_sacrebleu_but_for_equal_differences(
    reference, outputs, monkeypatch
):
    """SacreBLEU counts only larger differences; those of TER are often just the same."""
    _, theirs = paired_test(outputs, [reference], "ar")
    settings = EvaluationSettings(samples=SAMPLES)
    ours = evaluate([reference], single(outputs), settings=settings)
    monkeypatch.setattr(significance, "TIE", -significance.TIE)  # >= becomes >
    strict = evaluate([reference], single(outputs), settings=settings)
    for name in METRICS:
        systems = zip(ours.systems[1:], strict.systems[1:], theirs[name][1:], strict=True)
        for system, without_ties, expected in systems:
            p = without_ties.scores[name].comparison.p_randomisation
            assert p == expected.p_value
            assert system.scores[name].comparison.p_randomisation >= p


def test_a_difference_is_found_and_a_small_one_is_not(reference, outputs):
    ours = evaluate([reference], single(outputs), settings=EvaluationSettings(samples=SAMPLES))
    close, worse = (system.scores["BLEU"].comparison for system in ours.systems[1:])
    assert worse.p_bootstrap == worse.p_randomisation == 1 / (SAMPLES + 1)
    assert worse.interval[1] < 0
    assert min(close.p_bootstrap, close.p_randomisation) > 0.05
    assert close.interval[0] < 0 < close.interval[1]


def test_a_system_against_itself(reference, outputs):
    ours = evaluate([reference], {"a": [outputs["base"]], "b": [outputs["base"]]})
    for name in METRICS:
        comparison = ours.systems[1].scores[name].comparison
        assert (comparison.p_bootstrap, comparison.p_randomisation) == (1.0, 1.0)
        assert (comparison.difference, comparison.interval) == (0.0, (0.0, 0.0))
        assert (comparison.better, comparison.worse, comparison.equal) == (0, 0, 120)


def test_blocks_of_samples_change_nothing(reference, outputs, monkeypatch):
    systems = {"base": [outputs["base"]], "a": [outputs["close"], outputs["worse"]]}
    settings = EvaluationSettings(samples=50)
    whole = evaluate([reference], systems, settings=settings)
    monkeypatch.setattr(significance, "CELLS_AT_ONCE", 7 * 120 * 3)
    assert evaluate([reference], systems, settings=settings) == whole


@pytest.mark.moses
def test_real_outputs_agree_with_sacrebleu(monkeypatch):
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    source = "\n".join(read_text(DATA / "corpus" / "test.en")[:60]) + "\n"
    reference = read_text(DATA / "corpus" / "test.fr")[:60]
    outputs = {}
    for penalty in ("-1", "0.5"):
        weight = f"WordPenalty0= {penalty}"
        decoded = subprocess.run(
            ["moses", "-f", "moses.ini", "-v", "0", "-weight-overwrite", weight],
            cwd=DATA, input=source, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
        outputs[penalty] = decoded.stdout.splitlines()
    monkeypatch.setattr(significance, "TIE", -significance.TIE)
    ours = evaluate([reference], single(outputs)).systems[1]
    bootstrap, randomisation = (
        paired_test(outputs, [reference], kind, 1000)[1] for kind in ("bs", "ar")
    )
    for name in METRICS:
        comparison = ours.scores[name].comparison
        assert ours.scores[name].mean == bootstrap[name][1].score
        assert comparison.difference != 0
        assert comparison.p_bootstrap == pytest.approx(bootstrap[name][1].p_value, abs=0.002)
        assert comparison.p_randomisation == pytest.approx(
            randomisation[name][1].p_value, abs=0.002
        )


# -- several runs ----------------------------------------------------------------------------------


def test_mean_and_deviation_over_runs(reference, outputs):
    runs = list(outputs.values())
    score = evaluate([reference], {"a": runs}, settings=QUICK).baseline.scores["BLEU"]
    alone = [
        sacrebleu.corpus_bleu(text, [reference], tokenize="none", force=True).score for text in runs
    ]
    assert score.runs == tuple(alone)
    assert score.mean == pytest.approx(np.mean(alone))
    assert score.deviation == pytest.approx(np.std(alone, ddof=1))
    assert score.interval is None
    assert score.comparison is None


def test_bootstrap_of_runs_is_that_of_resampled_text(reference, outputs):
    """Against the slow way: text resampled line by line, scored anew for each run."""
    settings = EvaluationSettings(samples=40)
    systems = {"base": [outputs["base"]], "a": [outputs["close"], outputs["worse"]]}
    system = evaluate([reference], systems, settings=settings).systems[1]
    comparison = system.scores["BLEU"].comparison
    drawn = np.random.default_rng(settings.seed).choice(120, size=(40, 120))

    def score(text: list[str], places: np.ndarray) -> float:
        picked = ([lines[place] for place in places] for lines in (text, reference))
        hypotheses, truth = picked
        return sacrebleu.corpus_bleu(hypotheses, [truth], tokenize="none", force=True).score

    means = {
        name: np.array([np.mean([score(text, places) for text in runs]) for places in drawn])
        for name, runs in systems.items()
    }
    ordered = np.sort(means["a"])
    assert system.scores["BLEU"].interval == pytest.approx((ordered[1], ordered[38]))
    differences = means["a"] - means["base"]
    assert comparison.interval == pytest.approx(tuple(np.sort(differences)[[1, 38]]))
    absolute = np.abs(differences)
    count = sum(absolute - absolute.mean() >= abs(comparison.difference))
    assert comparison.p_bootstrap == (count + 1) / 41


@pytest.mark.parametrize(("baseline_runs", "system_runs"), [(1, 1), (1, 2), (2, 2), (3, 1)])
def test_randomisation_of_runs_is_that_of_all_swaps_enumerated(baseline_runs, system_runs):
    """Every way to swap the outputs of each of 4 sentences is tried; sampling must come near."""
    chance, sentences = random.Random(baseline_runs + 10 * system_runs), 4
    baseline, system = (
        np.array(
            [
                [[chance.randrange(9), chance.randrange(5, 9)] for _ in range(sentences)]
                for _ in range(runs)
            ],
            float,
        )
        for runs in (baseline_runs, system_runs)
    )

    def ratio(sums: list[float]) -> float:
        return sums[0] / sums[1]

    def difference(swaps: tuple[bool, ...]) -> float:
        mine, others = np.zeros(2), np.zeros(2)
        for sentence, swap in enumerate(swaps):
            sides = [runs[:, sentence].mean(axis=0) for runs in (baseline, system)]
            mine += sides[swap]
            others += sides[not swap]
        return ratio(others.tolist()) - ratio(mine.tolist())

    observed = abs(difference((False,) * sentences))
    every = list(product((False, True), repeat=sentences))
    exact = np.mean([abs(difference(swaps)) >= observed - 1e-9 for swaps in every])
    sampled = significance.randomisation_p(
        list(baseline), list(system), ratio, samples=20_000, seed=1
    )
    assert sampled == pytest.approx(exact, abs=0.015)


def test_runs_given_three_times_leave_the_p_values_as_they_are(reference, outputs):
    once = evaluate([reference], single(outputs), settings=EvaluationSettings(samples=100))
    systems = {name: [text] * 3 for name, text in outputs.items()}
    thrice = evaluate([reference], systems, settings=EvaluationSettings(samples=100))
    for name in METRICS:
        for first, second in zip(once.systems[1:], thrice.systems[1:], strict=True):
            comparison = first.scores[name].comparison
            assert second.scores[name].comparison.p_bootstrap == comparison.p_bootstrap
            again = second.scores[name].comparison.p_randomisation
            assert again == pytest.approx(comparison.p_randomisation)
            assert second.scores[name].comparison.interval == pytest.approx(comparison.interval)
        assert thrice.baseline.scores[name].deviation == pytest.approx(0.0)


# -- sentences -------------------------------------------------------------------------------------


def test_sentence_differences_are_those_of_sacrebleu(reference, outputs):
    ours = evaluate([reference], single(outputs), settings=QUICK).systems[2]
    sentence_scores = {
        "BLEU": lambda line, truth: sacrebleu.sentence_bleu(line, [truth], tokenize="none"),
        "chrF2": lambda line, truth: sacrebleu.sentence_chrf(line, [truth]),
        "TER": lambda line, truth: sacrebleu.sentence_ter(line, [truth]),
    }
    for name, score in sentence_scores.items():
        base, worse = (
            np.array([score(*pair).score for pair in zip(text, reference, strict=True)])
            for text in (outputs["base"], outputs["worse"])
        )
        comparison = ours.scores[name].comparison
        assert comparison.sentences == pytest.approx(worse - base)
        assert comparison.sentence_mean == pytest.approx(np.mean(worse - base))
        gain = base - worse if name == "TER" else worse - base
        counts = (gain > 1e-9).sum(), (gain < -1e-9).sum(), (abs(gain) <= 1e-9).sum()
        assert (comparison.better, comparison.worse, comparison.equal) == counts


# -- the result ------------------------------------------------------------------------------------


def test_as_dict_goes_through_json(reference, outputs):
    systems = {"base": [outputs["base"]], "a": [outputs["close"], outputs["worse"]]}
    settings = EvaluationSettings(samples=9, seed=3)
    evaluation = evaluate([reference], systems, settings=settings)
    content = json.loads(json.dumps(evaluation.as_dict()))
    assert content["sentences"] == 120
    assert content["baseline"] == "base"
    assert content["settings"] == {
        "tokenize": "none", "detokenize": None, "lowercase": False,
        "samples": 9, "seed": 3, "significance": True,
    }  # fmt: skip
    base, other = content["systems"]
    assert base["scores"]["TER"]["comparison"] is None
    score = evaluation.systems[1].scores["BLEU"]
    assert other["scores"]["BLEU"]["runs"] == list(score.runs)
    assert other["scores"]["BLEU"]["standard_deviation"] == score.deviation
    assert other["scores"]["BLEU"]["comparison"]["p_bootstrap"] == score.comparison.p_bootstrap
    assert set(other["lengths"]) == {"words", "reference_words", "empty", "ratio"}


def test_without_significance_nothing_is_sampled(reference, outputs, monkeypatch):
    monkeypatch.setattr(significance, "resample_counts", None)
    monkeypatch.setattr(significance, "randomisation_p", None)
    evaluation = evaluate([reference], single(outputs), settings=QUICK)
    comparison = evaluation.systems[1].scores["BLEU"].comparison
    assert comparison.interval is comparison.p_bootstrap is comparison.p_randomisation is None
    assert "seed" not in evaluation.signatures["BLEU"]


def test_one_sentence():
    evaluation = evaluate([["a b c d e"]], {"a": [["a b c d e"]], "b": [["a b c d f"]]})
    comparison = evaluation.systems[1].scores["BLEU"].comparison
    assert comparison.interval[0] == comparison.interval[1] == comparison.difference < 0
    assert comparison.p_randomisation == 1.0


# -- text, and what is refused ---------------------------------------------------------------------


def test_text_is_split_at_newlines_only(tmp_path):
    text = "a\u2028b\x0bc\n\nd\u0085\n e \r\nno end"
    for name, data in (("t", text.encode()), ("t.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        assert read_text(tmp_path / name) == ["a\u2028b\x0bc", "", "d\u0085", " e \r", "no end"]


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "t").write_bytes("é\n".encode() + "é b\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        read_text(tmp_path / "t")
    assert str(error.value) == f'{tmp_path / "t"}:2: not UTF-8: "\\xe9 b"'


@pytest.mark.parametrize(
    ("references", "systems", "kind", "message"),
    [
        ([], {"a": [["x"]]}, UsageError, "no reference to compare with"),
        ([["x"]], {}, UsageError, "no system to evaluate"),
        ([["x"]], {"a": []}, UsageError, "system a has no output"),
        ([[]], {"a": [[]]}, DataError, "the reference is empty"),
        ([["x"]], {"a": [["x", "y"]]}, DataError, "a: 2 lines, but the reference has 1"),
        ([["x"]], {"a": [["x"], []]}, DataError, "a 2: 0 lines, but the reference has 1"),
        (
            [["x"], ["x", "y"]], {"a": [["x"]]}, DataError,
            "reference 2: 2 lines, but the reference has 1",
        ),
    ],
)  # fmt: skip
def test_texts_that_do_not_fit(references, systems, kind, message):
    with pytest.raises(kind) as error:
        evaluate(references, systems)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokenize": "14"}, "unknown tokenizer 14; known: none, 13a, intl, char, zh"),
        ({"detokenize": "french"}, "french is not a language code like fr"),
        ({"samples": 0}, "samples must be at least 1, the seed at least 0"),
        ({"seed": -1}, "samples must be at least 1, the seed at least 0"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(UsageError) as error:
        EvaluationSettings(**wrong)
    assert str(error.value) == message


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(DataError) as error:
        read_text(tmp_path / "none")
    assert str(error.value) == f"{tmp_path / 'none'}: cannot read: {os.strerror(2)}"
