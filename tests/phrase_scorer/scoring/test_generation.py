"""Beam search against exhaustive search, and sampling against the probabilities themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from toys import parameters_of, phrase_pairs, tiny_model

from phrase_scorer.errors import UsageError
from phrase_scorer.models import ARCHITECTURES
from phrase_scorer.scoring import reference
from phrase_scorer.scoring.generation import Generator
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import END, UNKNOWN

STEPWISE = [name for name, kind in ARCHITECTURES.items() if kind.is_stepwise]
SOURCE, LONGEST, WORDS = [3, 2], 4, 5  # of the target: </s>, <unk> and three words


def every_target(allow_unknown: bool = True) -> list[tuple[int, ...]]:
    words = range(1 if allow_unknown else 2, WORDS)
    return [t for n in range(LONGEST + 1) for t in itertools.product(words, repeat=n)]


def exhaustive(model, targets) -> dict[tuple[int, ...], float]:
    """ln p of every target, by the plain model."""
    pairs = phrase_pairs([(SOURCE, list(target)) for target in targets])
    with torch.inference_mode():
        log_probs = model.log_probs(pair_batch(pairs, np.arange(len(pairs)))).sum(1)
    return dict(zip(targets, log_probs.tolist(), strict=True))


@pytest.mark.parametrize("architecture", STEPWISE)
@pytest.mark.parametrize("allow_unknown", [True, False])
def test_a_wide_beam_is_exhaustive_search(architecture, allow_unknown):
    model = tiny_model(architecture=architecture, target_words=WORDS, deviation=0.8)
    truth = exhaustive(model, every_target(allow_unknown))
    generator = Generator(model, longest=LONGEST, allow_unknown=allow_unknown)
    found = generator.search(SOURCE, beam=1000)
    assert len(found) == len(truth)
    assert [g.log_prob for g in found] == sorted((g.log_prob for g in found), reverse=True)
    for generated in found:
        assert generated.log_prob == pytest.approx(truth[generated.words], abs=1e-4)


@pytest.mark.parametrize("variant", ["paper", "groundhog"])
def test_a_beam_finds_the_best_target_of_the_papers_model(variant):
    """Against reference.py, over all targets of up to 4 words of a toy vocabulary."""
    model = tiny_model(variant, target_words=WORDS, deviation=0.8, seed=3)
    parameters = parameters_of(model)
    truth = {
        target: reference.log_prob(parameters, [*SOURCE, END], [*target, END], variant)
        for target in every_target()
    }
    ranked = sorted(truth, key=truth.__getitem__, reverse=True)
    found = Generator(model, longest=LONGEST, allow_unknown=True).search(SOURCE, beam=40)
    assert [g.words for g in found[:5]] == ranked[:5]
    assert found[0].log_prob == pytest.approx(truth[ranked[0]], abs=1e-5)


def test_a_narrow_beam_finds_no_better_targets():
    model = tiny_model(target_words=WORDS, deviation=0.8)
    generator = Generator(model, longest=LONGEST)
    best = [generator.search(SOURCE, beam)[0].log_prob for beam in (1, 2, 5, 50)]
    assert best[-1] >= max(best) - 1e-6
    assert len(generator.search(SOURCE, 3)) == 3


def test_greedy_search_takes_the_likeliest_symbol():
    model = tiny_model(target_words=WORDS, deviation=0.8)
    words: list[int] = []
    while len(words) < LONGEST:
        pairs = phrase_pairs([(SOURCE, words)])
        with torch.no_grad():
            features = model.features(pair_batch(pairs, np.zeros(1, np.int64)))
            logits = model.output(features)[-1].clone()
        logits[[END, UNKNOWN]] = -math.inf
        words.append(int(logits.argmax()))
    truth = exhaustive(model, [tuple(words[:n]) for n in range(LONGEST + 1)])
    found = Generator(model, longest=LONGEST).search(SOURCE, beam=1)
    assert found[0].words in truth
    assert found[0].log_prob == pytest.approx(max(truth.values()), abs=1e-5)


@pytest.mark.parametrize("architecture", STEPWISE)
def test_samples_come_as_often_as_they_are_likely(architecture):
    model = tiny_model(architecture=architecture, target_words=WORDS, deviation=0.8)
    generator = Generator(model, longest=LONGEST, allow_unknown=True)
    count = 4000
    found = generator.sample(SOURCE, count, seed=5)
    truth = exhaustive(model, every_target())
    assert sum(g.count for g in found) <= count
    for generated in found:
        p = math.exp(truth[generated.words])
        assert generated.log_prob == pytest.approx(truth[generated.words], abs=1e-4)
        assert abs(generated.count - count * p) < 5 * math.sqrt(count * p * (1 - p)) + 1
    likely = [t for t, log_prob in truth.items() if log_prob > math.log(0.02)]
    assert set(likely) <= {g.words for g in found}


def test_seeds_and_temperature():
    generator = Generator(tiny_model(target_words=WORDS, deviation=0.8), longest=LONGEST)
    one = generator.sample(SOURCE, 50, seed=1)
    assert one == generator.sample(SOURCE, 50, seed=1)
    assert one != generator.sample(SOURCE, 50, seed=2)
    cold = generator.sample(SOURCE, 50, temperature=0.01)
    assert len(cold) <= 1  # always the greedy target, if it ends in time
    assert generator.sample(SOURCE, 20, temperature=1e-300) == generator.sample(
        SOURCE, 20, temperature=1e-40
    )
    hot = generator.sample(SOURCE, 500, temperature=50.0)
    assert len(hot) > len(generator.sample(SOURCE, 500, temperature=0.3))


def test_unknown_words_are_not_drawn():
    generator = Generator(tiny_model(target_words=WORDS, deviation=0.8), longest=LONGEST)
    assert all(UNKNOWN not in g.words for g in generator.sample(SOURCE, 1500))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.search(SOURCE, 0), "--beam must be at least 1, not 0"),
        (lambda g: g.sample(SOURCE, 0), "--sample must be at least 1, not 0"),
        (
            lambda g: g.sample(SOURCE, 1, temperature=0.0),
            "--temperature must be above 0, not 0.0",
        ),
    ],
)
def test_wrong_numbers(call, message):
    with pytest.raises(UsageError) as error:
        call(Generator(tiny_model()))
    assert str(error.value) == message


def test_what_cannot_generate():
    with pytest.raises(UsageError) as error:
        Generator(tiny_model(architecture="masked"))
    assert str(error.value) == (
        "a model of architecture masked cannot generate; encoder_decoder, seq2seq, attention, "
        "transformer, decoder_only can"
    )
    with pytest.raises(UsageError) as error:
        Generator(tiny_model(), longest=0)
    assert str(error.value) == "--max-words must be at least 1, not 0"
