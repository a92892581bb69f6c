"""The scorer against reference.py, pair by pair; its promises on order, sharing and input."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from toys import parameters_of, tiny_model

from phrase_scorer import PhraseScorer
from phrase_scorer.errors import UsageError
from phrase_scorer.models import ARCHITECTURES
from phrase_scorer.models.config import SUMMARIZING
from phrase_scorer.runtime.device import Arithmetic, Precision
from phrase_scorer.scoring import engine, reference, scorer
from phrase_scorer.text.batches import pair_batch, source_batch
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import END, Vocabulary

WORDS = [b"w%d" % i for i in range(20)]


@pytest.fixture(params=["paper", "groundhog"])
def made(request):
    model = tiny_model(request.param, source_words=22, target_words=22, hidden=8, deviation=0.4)
    return PhraseScorer(model, Vocabulary(WORDS), Vocabulary(WORDS))


def random_pairs(count: int, seed: int = 5) -> list[tuple[list[str], list[str]]]:
    """Pairs with repeated sources, unknown words, single words, empty targets, long phrases."""
    draw = np.random.default_rng(seed)
    known = [f"w{i}" for i in range(20)]

    def phrase(shortest: int) -> list[str]:
        length = int(
            draw.choice([shortest, 1, 2, 3, 5, 7, 30], p=[0.1, 0.2, 0.2, 0.2, 0.15, 0.1, 0.05])
        )
        return [known[i] if i < 20 else f"unknown{i}" for i in draw.integers(0, 24, length)]

    sources = [phrase(1) for _ in range(count // 4)]
    return [(sources[i], phrase(0)) for i in draw.integers(0, len(sources), count)]


def expected(made: PhraseScorer, pairs) -> list[float]:
    parameters = parameters_of(made.model)
    result = []
    for source, target in pairs:
        ids = [
            [vocabulary.id(word.encode()) for word in words] + [END]
            for vocabulary, words in (
                (made.source_vocabulary, source),
                (made.target_vocabulary, target),
            )
        ]
        result.append(reference.log_prob(parameters, *ids, made.model.config.variant))
    return result


def test_equals_the_reference(made):
    pairs = random_pairs(300)
    scores = made.score(pairs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected(made, pairs), rtol=0, atol=1e-4)


def test_equals_the_reference_over_several_blocks_and_parts(made, monkeypatch):
    monkeypatch.setattr(scorer, "BLOCK_PAIRS", 37)
    monkeypatch.setattr(scorer, "PART_PAIRS", 19)
    monkeypatch.setattr(engine, "ROWS_ON_CPU", 5)
    pairs = random_pairs(150, seed=6)
    np.testing.assert_allclose(made.score(pairs), expected(made, pairs), rtol=0, atol=1e-4)


def test_a_score_does_not_depend_on_its_neighbours(made):
    pairs = random_pairs(60, seed=7)
    together = made.score(pairs)
    alone = np.concatenate([made.score([pair]) for pair in pairs])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(made.score(pairs[::-1])[::-1], together, rtol=1e-6, atol=1e-5)


def test_an_inverse_model_reads_the_target_side():
    sizes = {"source_words": 22, "target_words": 12, "hidden": 8}
    forward = tiny_model(**sizes)
    inverse = tiny_model(**sizes, direction="inverse")
    vocabularies = Vocabulary(WORDS), Vocabulary(WORDS[:10])
    pairs = random_pairs(40, seed=9)
    swapped = [(target, source) for source, target in pairs]
    np.testing.assert_array_equal(
        PhraseScorer(inverse, *vocabularies).score(swapped),
        PhraseScorer(forward, *vocabularies).score(pairs),
    )


def test_strings_bytes_and_lists(made):
    scores = made.score([("w1 w2", "w3"), (b"w1  w2", b"w3"), (["w1", "w2"], ["w3"])])
    assert scores[0] == scores[1] == scores[2] < 0


def test_a_block_of_unequal_sides(made):
    with pytest.raises(UsageError) as caught:
        made.score_block(PairBlock([[b"w1"], [b"w2"]], [[b"w1"]]))
    assert str(caught.value) == "2 sources, but 1 targets"


def test_sources_and_targets(made):
    pairs = random_pairs(60)
    sources, targets = zip(*pairs, strict=True)
    np.testing.assert_array_equal(made.score(sources, targets), made.score(pairs))
    np.testing.assert_array_equal(made.score(iter(sources), list(targets)), made.score(pairs))


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (["a", "b"], ["c"], "source 1 has no target: as many of both are needed"),
        (["a"], ("c", "d", "e"), "target 1 has no source: as many of both are needed"),
        ("ab", ["c", "d"], "sources must be a sequence of phrases, not a str"),
        (["a", "b"], b"cd", "targets must be a sequence of phrases, not a bytes"),
        (["a"], [{"c": 1}],
         "the target of pair 0 must be a string with blanks, or a list of words, not a dict"),
        (3, ["a"], "sources must be a sequence of phrases, not a int"),
    ],
)  # fmt: skip
def test_sources_and_targets_that_do_not_fit(made, sources, targets, message):
    for method in (made.score, made.word_scores, lambda *args: list(made.score_iterable(*args))):
        with pytest.raises(TypeError) as raised:
            method(sources, targets)
        assert str(raised.value) == message


def test_an_endless_iterable_is_scored_as_it_is_taken(made):
    taken = []

    def pairs():
        for number in itertools.count():
            taken.append(number)
            yield f"w{number % 20}", "w3 w4"

    found = list(itertools.islice(made.score_iterable(pairs(), block_pairs=3), 7))
    assert len(taken) == 9
    expected = made.score([(f"w{number}", "w3 w4") for number in range(7)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(UsageError, match="block_pairs must be at least 1, not 0"):
        next(made.score_iterable([], block_pairs=0))


def test_word_scores_equal_the_reference(made):
    pairs = random_pairs(200)
    found = made.word_scores(pairs)
    parameters, variant = parameters_of(made.model), made.model.config.variant
    for scores, (source, target) in zip(found, pairs, strict=True):
        assert scores.dtype == np.float32
        ids = (
            [*map(made.source_vocabulary.id, map(str.encode, source)), END],
            [*map(made.target_vocabulary.id, map(str.encode, target)), END],
        )
        expected = reference.target_log_probs(parameters, *ids, variant)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    sums = [scores.sum(dtype=float) for scores in found]
    np.testing.assert_allclose(sums, made.score(pairs), rtol=2e-7, atol=1e-5)
    assert made.word_scores([]) == []


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize(
    "architecture",
    ["encoder_decoder", "seq2seq", "attention", "transformer", "decoder_only", "masked"],
)
def test_word_scores_of_every_architecture_and_precision(architecture, precision, monkeypatch):
    """In the order of the pairs, whichever engine: they sum to the scores, cut in parts or not."""
    model = tiny_model(architecture=architecture, source_words=22, target_words=22)
    words = Vocabulary(WORDS)
    made = PhraseScorer(model, words, words, arithmetic=Arithmetic("cpu", precision))
    pairs = random_pairs(300)
    monkeypatch.setattr(scorer, "PART_PAIRS", 64)
    found = made.word_scores(pairs)
    assert [len(scores) for scores in found] == [len(target) + 1 for _, target in pairs]
    sums = [scores.sum(dtype=float) for scores in found]
    np.testing.assert_allclose(sums, made.score(pairs), rtol=2e-7, atol=1e-5)
    if precision == "float32":
        with torch.inference_mode():
            for scores, pair in zip(found[:60], pairs, strict=False):
                ids = made.ids(PairBlock(*([[w.encode() for w in side]] for side in pair)))
                alone = model.log_probs(pair_batch(ids, np.arange(1)))[0]
                np.testing.assert_allclose(scores, alone, rtol=0, atol=1e-4)


def test_word_scores_of_an_endless_iterable(made):
    pairs = ((f"w{number % 20}", "w3 w4") for number in itertools.count())
    found = list(itertools.islice(made.word_scores_iterable(pairs, block_pairs=3), 7))
    expected = made.word_scores([(f"w{number}", "w3 w4") for number in range(7)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(UsageError, match="block_pairs must be at least 1, not 0"):
        next(made.word_scores_iterable([], block_pairs=0))


# -- vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_equal_the_reference(made, monkeypatch, threads):
    """Repeated phrases, unknown words, and no words at all; in one part or in several blocks."""
    phrases = [*(target for _, target in random_pairs(150)), [], ["w1"]]
    parameters, variant = parameters_of(made.model), made.model.config.variant
    ids = ([*map(made.source_vocabulary.id, map(str.encode, p)), END] for p in phrases)
    expected = [reference.encode(parameters, each, variant) for each in ids]
    found = made.vectors(phrases)
    assert (found.shape, found.dtype) == ((152, 8), np.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(scorer, "BLOCK_PAIRS", 37)
    monkeypatch.setattr(scorer, "LEAST_PAIRS", 5)
    monkeypatch.setattr(scorer, "PART_PAIRS", 11)
    monkeypatch.setattr(engine, "ROWS_ON_CPU", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    again = PhraseScorer(made.model, made.source_vocabulary, made.target_vocabulary)
    np.testing.assert_allclose(again.vectors(map(" ".join, phrases)), expected, rtol=0, atol=1e-5)
    assert made.vectors([]).shape == (0, 8)


def test_each_phrase_is_read_once(made, monkeypatch):
    read = []
    monkeypatch.setattr(made._engine, "_summaries", lambda p: read.append(p) or torch.zeros(2, 8))
    assert made.vectors(["w1 w2", "w3", "w1 w2", "w3", "w3"]).shape == (5, 8)
    assert [each.lengths.tolist() for each in read] == [[1, 2]]


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("architecture", SUMMARIZING)
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_vectors_are_those_of_the_plain_model(architecture, cell, precision):
    model = tiny_model(architecture=architecture, cell=cell, source_words=22, target_words=22)
    words = Vocabulary(WORDS)
    made = PhraseScorer(model, words, words, arithmetic=Arithmetic("cpu", precision))
    phrases = [source for source, _ in random_pairs(80)]
    found = made.vectors(phrases)
    summaries = model.encode if architecture == "encoder_decoder" else model.summaries
    with torch.inference_mode():
        for vector, phrase in zip(found, phrases, strict=True):
            ids = words.ids([[word.encode() for word in phrase]])
            alone = summaries(source_batch(ids, np.arange(1)))[0]
            allowed = 1e-6 if precision == "float32" else 0.05
            np.testing.assert_allclose(vector, alone, rtol=0, atol=allowed)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - SUMMARIZING))
def test_who_keeps_no_phrase_as_one_vector(architecture):
    model = tiny_model(architecture=architecture, source_words=22, target_words=22)
    with pytest.raises(UsageError) as raised:
        PhraseScorer(model, Vocabulary(WORDS), Vocabulary(WORDS)).vectors([])
    assert str(raised.value) == (
        f"a model of architecture {architecture} has no vector of a phrase; "
        "encoder_decoder and seq2seq have"
    )


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ("w1 w2", "phrases must be a sequence of phrases, not a str"),
        ({"w1"}, "phrases must be a sequence of phrases, not a set"),
        (["w1", 3], "phrase 1 must be a string with blanks, or a list of words, not a int"),
        (["w1", "w2", "a\nb"], "phrase 2 has several lines"),
    ],
)
def test_what_is_no_phrase_is_refused_by_its_place(made, monkeypatch, phrases, message):
    monkeypatch.setattr(scorer, "BLOCK_PAIRS", 1)
    with pytest.raises(TypeError) as raised:
        made.vectors(phrases)
    assert str(raised.value) == message


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_embeddings_of_either_side(direction):
    model = tiny_model(direction=direction, source_words=22, target_words=12)
    made = PhraseScorer(model, Vocabulary(WORDS), Vocabulary(WORDS[:10]))
    read, predicted = model.source_embedding, model.target_embedding
    sides = [("source", read), ("target", predicted)]
    if direction == "inverse":
        sides = [("source", predicted), ("target", read)]
    for side, embedding in sides:
        found = made.embeddings(side)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, embedding.weight + embedding.bias)
        assert len(made.vocabularies[side].words) == len(found)
    np.testing.assert_array_equal(made.embeddings(), made.embeddings("target"))
    with pytest.raises(UsageError) as raised:
        made.embeddings("english")
    assert str(raised.value).startswith("unknown side 'english'; choose from ")


@pytest.mark.parametrize("shared", [False, True])
def test_embeddings_of_a_transformer(shared):
    model = tiny_model(
        architecture="transformer", shared_words=shared, source_words=22, target_words=22
    )
    made = PhraseScorer(model, Vocabulary(WORDS), Vocabulary(WORDS))
    source, target = made.embeddings("source"), made.embeddings("target")
    np.testing.assert_array_equal(target, model.target_embedding.weight)
    np.testing.assert_array_equal(source, target if shared else model.source_embedding.weight)


def test_what_a_scorer_says_of_itself():
    words, more = Vocabulary(WORDS), Vocabulary([*WORDS, b"more"])
    model = tiny_model(direction="inverse", source_words=23, target_words=22)
    assert repr(PhraseScorer(model, more, words)) == (
        "<PhraseScorer inverse: encoder_decoder of 5 units, 23 and 22 words (target, source), "
        "float32 on cpu>"
    )


def test_nothing_to_score(made):
    assert made.score([]).shape == (0,)
    assert made.score_block(PairBlock([], [])).dtype == np.float32


def test_probabilities_over_all_short_targets_are_at_most_one(made):
    words = [f"w{i}" for i in range(20)]
    targets = [[]] + [[a] for a in words] + [[a, b] for a in words for b in words]
    total = np.exp(made.score([("w0 w1", target) for target in targets]).astype(float)).sum()
    assert 0 < total < 1


def test_no_gradient_is_kept(made):
    made.score([("w1", "w2")])
    assert torch.is_grad_enabled()


def test_import_needs_no_torch():
    code = "import sys, phrase_scorer, phrase_scorer.cli; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


PAIR = "pair 1 must be (source, target), not"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("ab", "pairs must be a sequence of (source, target), not a str"),
        ({"a": "b"}, "pairs must be a sequence of (source, target), not a dict"),
        ([("a", "b"), {"src": "a", "tgt": "b"}], f"{PAIR} a dict"),
        ([("a", "b"), "ab"], f"{PAIR} a str"),
        ([("a", "b"), ("a",)], f"{PAIR} a tuple of 1"),
        ([("a", "b"), ["a", "b", "c"]], f"{PAIR} a list of 3"),
        ([("a", "b"), None], f"{PAIR} a NoneType"),
        ([("a", "b"), {"a", "b"}], f"{PAIR} a set"),
        ([("a", {"b": 1})],
         "the target of pair 0 must be a string with blanks, or a list of words, not a dict"),
        ([("a", None)], "the target of pair 0 must be a string with blanks, or a list of words, "
         "not a NoneType"),
        ([([1], "b")], "the source of pair 0 must be a string with blanks, or a list of words, "
         "not a list"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused_by_its_place(made, pairs, message):
    """A dict of two keys, or a string of two letters, was scored as a pair."""
    with pytest.raises(TypeError) as raised:
        made.score(pairs)
    assert str(raised.value) == message


def test_lines_of_a_file_are_phrases(made):
    """Their ends were a part of the last word, which then was unknown."""
    scores = made.score(["w1 w2\n", "w1\r\n", b"w3\n"], ["w3\n", "w2 w4", "\n"])
    np.testing.assert_array_equal(
        scores, made.score([("w1 w2", "w3"), ("w1", "w2 w4"), ("w3", "")])
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("w1\nw2", "w3"), "the source of pair 0 has several lines"),
        (("w1", ["w2 w3"]),
         "the target of pair 0 is a list in which a word is empty, or has a blank or a line end"),
        ((["w1", ""], "w2"),
         "the source of pair 0 is a list in which a word is empty, or has a blank or a line end"),
        ((["w1\n"], "w2"),
         "the source of pair 0 is a list in which a word is empty, or has a blank or a line end"),
    ],
)  # fmt: skip
def test_a_word_has_no_blank_and_a_phrase_no_line_end(made, pair, message):
    with pytest.raises(TypeError) as raised:
        made.score([pair])
    assert str(raised.value) == message


def test_places_run_on_over_the_blocks(made, monkeypatch):
    monkeypatch.setattr(scorer, "BLOCK_PAIRS", 2)
    with pytest.raises(TypeError) as raised:
        made.score([*[("w1", "w2")] * 5, "ab"])
    assert str(raised.value) == "pair 5 must be (source, target), not a str"
