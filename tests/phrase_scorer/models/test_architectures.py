"""What holds for every architecture and cell: gradients, batching, and how a new one is added."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from toys import phrase_pairs, tiny_model

from phrase_scorer import PhraseScorer
from phrase_scorer import models as module
from phrase_scorer.models import ARCHITECTURES, CELLS, ModelConfig, build
from phrase_scorer.models.cells import AdditiveCell
from phrase_scorer.models.phrase_model import Affine, Output, PhraseModel
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import Vocabulary
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.job import TrainingJob
from phrase_scorer.training.settings import TrainingSettings
from phrase_scorer.training.trainer import run_training

PAIRS = [([2, 3, 4], [5, 6]), ([8], [8]), ([7, 7, 2, 5], [2, 2, 2]), ([4, 1], []), ([1], [3])]
RECURRENT = ("encoder_decoder", "seq2seq", "attention")
SYSTEMS = [
    *itertools.product(RECURRENT, CELLS),
    *((name, "gru") for name in ARCHITECTURES if name not in RECURRENT),
]


@pytest.mark.parametrize(("architecture", "cell"), SYSTEMS)
def test_gradients_reach_every_parameter(architecture, cell):
    model = tiny_model(architecture=architecture, cell=cell).requires_grad_(True)
    model.log_probs(pair_batch(phrase_pairs(PAIRS), np.arange(5))).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # What is added to all keys alike changes no attention (softmax), so it gets nothing.
        assert parameter.grad.abs().sum() > 0 or name.endswith("key.bias"), name


@pytest.mark.parametrize(("architecture", "cell"), SYSTEMS)
def test_a_pair_does_not_see_the_others_in_its_batch(architecture, cell):
    model = tiny_model(architecture=architecture, cell=cell, dtype=torch.float64)
    pairs = phrase_pairs(PAIRS)
    together = model.log_probs(pair_batch(pairs, np.arange(5))).sum(1)
    alone = [float(model.log_probs(pair_batch(pairs, np.array([i]))).sum()) for i in range(5)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", [n for n, a in ARCHITECTURES.items() if a.is_stepwise])
def test_probabilities_of_all_targets_sum_to_one(architecture):
    model = tiny_model(architecture=architecture, target_words=3, dtype=torch.float64)
    finished = [list(t) for n in range(5) for t in itertools.product([1, 2], repeat=n)]
    pairs = phrase_pairs([([1, 2], target) for target in finished])
    total = model.log_probs(pair_batch(pairs, np.arange(len(pairs)))).sum(1).exp().sum()
    longer = phrase_pairs([([1, 2], list(t)) for t in itertools.product([1, 2], repeat=5)])
    batch = pair_batch(longer, np.arange(len(longer)))
    total += model.log_probs(batch)[:, :5].sum(1).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


def test_the_masked_model_is_no_distribution():
    model = tiny_model(architecture="masked", target_words=3, dtype=torch.float64)
    targets = [list(t) for n in range(6) for t in itertools.product([1, 2], repeat=n)]
    pairs = phrase_pairs([([1, 2], target) for target in targets])
    total = model.log_probs(pair_batch(pairs, np.arange(len(pairs)))).sum(1).exp().sum()
    assert abs(float(total) - 1) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout(architecture):
    """In training alone: units are left out at random; scoring has all of them."""
    batch = pair_batch(phrase_pairs(PAIRS), np.arange(5))
    plain, model = (tiny_model(architecture=architecture, dropout=p) for p in (0.0, 0.5))
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.log_probs(batch), plain.log_probs(batch))
    assert torch.equal(plain.train().log_probs(batch), plain.eval().log_probs(batch))
    model.train()
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(model.log_probs(batch))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_seeds_are_reproducible(architecture):
    config = ModelConfig(8, 8, architecture=architecture, hidden=8, embedding=8, maxout=8)
    one, same, other = (build(config, seed, 0.1).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["output.right"], other["output.right"])


class BagOfWords(PhraseModel):
    """Each target symbol from the mean of the source words: no order, no history."""

    def __init__(self, config):
        super().__init__(config)
        self.words = Affine(config.source_words, config.hidden)
        self.output = Output(config.hidden, config)

    def read(self, sources):
        inside = sources.unfinished[:, :, None]
        return ((self.words.embed(sources.words) * inside).sum(0) / inside.sum(0),)

    def start(self, memory):
        return memory

    def advance(self, memory, state, words):
        return state

    def predict(self, memory, state):
        return self.output.features(state[0])

    def features(self, batch):
        (mean,) = self.read(batch.source)
        return self.output.features(mean.index_select(0, batch.target.phrases))


class LeakyUnit(AdditiveCell):
    """h' = h / 2 + tanh(s) / 2."""

    blocks = 1

    def update(self, signals, state):
        return (state + torch.tanh(signals)) / 2


@pytest.mark.parametrize(
    "names",
    [{"architecture": "bag"}, {"cell": "leaky"}, {"architecture": "attention", "cell": "leaky"}],
)
def test_a_new_one_is_a_class_and_a_line(names, monkeypatch, tmp_path):
    """Trained, saved, loaded and scored by the code that there is."""
    monkeypatch.setitem(module.ARCHITECTURES, "bag", BagOfWords)
    monkeypatch.setitem(module.CELLS, "leaky", LeakyUnit)
    words = [f"w{i}".encode() for i in range(7)]
    vocabulary = Vocabulary.shortlist(dict(zip(words, range(7, 0, -1), strict=True)), 9)
    sizes = {"hidden": 6, "embedding": 4, "maxout": 3, "output_rank": 2}
    config = ModelConfig(len(vocabulary), len(vocabulary), **names, **sizes)
    settings = TrainingSettings(max_updates=3, batch_pairs=4, validation_pairs=1)
    pairs = phrase_pairs(PAIRS)
    data = TrainingData(pairs, (vocabulary, vocabulary))
    run_training(TrainingJob(data, config, settings, tmp_path / "m"), show_progress=False)
    scorer = PhraseScorer.load(tmp_path / "m")
    with torch.inference_mode():
        plain = scorer.model.log_probs(pair_batch(pairs, np.arange(5))).sum(1)
    np.testing.assert_allclose(scorer.score_ids(pairs), plain, rtol=0, atol=1e-5)
