"""The continuous-space language model: its equations, training, perplexity, against KenLM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.language_model.model import (
    LanguageModel,
    NGrams,
    read_sentences,
    text_pairs,
    text_vocabulary,
)
from phrase_scorer.language_model.perplexity import own_perplexity
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.scoring.scorer import engine_for
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import END, Vocabulary
from phrase_scorer.training.data import TrainingData
from phrase_scorer.training.job import TrainingJob
from phrase_scorer.training.settings import TrainingSettings
from phrase_scorer.training.trainer import run_training

WORDS = [b"un", b"homme", b"chien", b"rouge"]
SIZES = {"order": 4, "embedding": 3, "hidden": 6, "second_hidden": 5, "output_rank": 0}
SENTENCES = [[b"un", b"homme", b"rouge"], [b"un", b"chat"], [b"chien"], [b"un", b"homme"]]


def tiny(seed: int = 1, **sizes: object):
    config = ModelConfig(2, len(WORDS) + 2, architecture="cslm", **{**SIZES, **sizes})
    return build(config, seed, 0.7).eval().requires_grad_(False)


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(tiny(), Vocabulary(WORDS))


def by_equations(network, sentence: list[int]) -> list[float]:
    """ln p of each word and the end symbol, by loops in float64."""
    p = {name: value.double().numpy() for name, value in network.named_parameters()}
    words = network.config.target_words
    history = [words] * (network.config.order - 1)
    found = []
    for word in [*sentence, END]:
        x = np.concatenate([p["embedding.weight"][i] for i in history])
        x = np.maximum(x @ p["first.weight"] + p["first.bias"], 0)
        x = np.maximum(x @ p["second.weight"] + p["second.bias"], 0)
        logits = x @ p["output.right"] + p["output.bias"]
        found.append(logits[word] - math.log(np.exp(logits).sum()))
        history = [*history[1:], word]
    return found


def test_is_its_equations(model):
    found = model.log_probs(model.ngrams(SENTENCES))
    ids = [[model.vocabulary.id(word) for word in sentence] for sentence in SENTENCES]
    expected = [value for sentence in ids for value in by_equations(model.model, sentence)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    sums = [sum(by_equations(model.model, sentence)) for sentence in ids]
    np.testing.assert_allclose(model.score(SENTENCES), sums, rtol=0, atol=1e-5)


def test_the_training_code_and_the_engine_see_the_same_model(model):
    pairs = text_pairs(SENTENCES, model.vocabulary)
    batch = pair_batch(pairs, np.arange(len(pairs)))
    expected = model.score(SENTENCES)
    with torch.inference_mode():
        np.testing.assert_allclose(model.model.log_probs(batch).sum(1), expected, atol=1e-5)
    engine = engine_for(model.model, "float32")
    np.testing.assert_allclose(engine.score(pairs), expected, rtol=0, atol=1e-5)


def test_every_context_sums_to_one(model):
    contexts = np.array([[6, 6, 6], [7, 7, 2], [7, 7, 7], [3, 4, 1]])
    rows, words = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    total = np.exp(model.chosen_log_probs(contexts, rows, words)).reshape(4, 6).sum(1)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    part = LanguageModel(model.model, model.vocabulary, [3, 5])
    left = np.exp(part.chosen_log_probs(contexts, rows, words)).reshape(4, 6)
    np.testing.assert_allclose(left.sum(1), 1, atol=1e-6)
    assert not left[:, [3, 5]].any()
    known = np.exp(model.chosen_log_probs(contexts, rows, words)).reshape(4, 6)
    np.testing.assert_allclose(left[:, 2] / left[:, 4], known[:, 2] / known[:, 4], rtol=1e-5)


def test_what_is_certain_has_no_probability_above_one(model):
    with torch.no_grad():
        model.model.output.bias[2] = 40.0
    certain = LanguageModel(model.model, model.vocabulary)
    contexts = np.random.default_rng(1).integers(0, 8, (500, 3))
    log_probs = certain.chosen_log_probs(contexts, np.arange(500), np.full(500, 2))
    assert (log_probs <= 0).all()
    assert log_probs.min() > -1e-5


def test_many_contexts_at_once(model, monkeypatch):
    ngrams = model.ngrams(SENTENCES * 3)
    expected = model.log_probs(ngrams)
    monkeypatch.setattr("phrase_scorer.language_model.model.CONTEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(model.log_probs(ngrams), expected, atol=1e-6)
    nothing = NGrams(np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
    assert model.log_probs(nothing).tolist() == []


def test_short_histories_in_training_only():
    network = tiny(short_histories=0.99)
    pairs = text_pairs(SENTENCES, Vocabulary(WORDS))
    batch = pair_batch(pairs, np.arange(4))
    whole = network.contexts(batch)
    assert torch.equal(network.features(batch), network.context_features(whole))
    torch.manual_seed(3)
    cut = network._shortened(whole.repeat(200, 1))
    no_word = cut == network.no_word
    assert no_word.any(1).double().mean() > 0.9
    # What is cut is the beginning, and what is left is as it was.
    assert torch.equal(no_word, no_word.int().cummin(1).values.bool())
    assert torch.equal(cut[~no_word], whole.repeat(200, 1)[~no_word])
    assert {0, 1, 2} == set((~no_word).sum(1)[no_word.any(1)].tolist())


def test_training_learns_the_text_and_resumes_to_the_same_weights(tmp_path):
    text = [[b"a", b"b", b"c"], [b"b", b"c"], [b"a", b"b", b"c", b"d"]] * 20
    vocabulary = text_vocabulary(text, 100, 1)
    pairs = text_pairs(text, vocabulary)
    config = ModelConfig(2, len(vocabulary), architecture="cslm", **{**SIZES, "dropout": 0.1})
    settings = {
        "optimizer": "adamw", "learning_rate": 0.02, "batch_pairs": 16, "max_updates": 60,
        "validate_every": 20, "initial_deviation": 0.0,
    }  # fmt: skip
    names = {}
    for name, stops in (("whole", [60]), ("parts", [25, 60])):
        for updates in stops:
            data = TrainingData(pairs, (Vocabulary(()), vocabulary), validation=pairs)
            chosen = TrainingSettings(**{**settings, "max_updates": updates})
            job = TrainingJob(data, config, chosen, tmp_path / name)
            result = run_training(job, resume=updates != stops[0], show_progress=False)
        names[name] = LanguageModel.load(tmp_path / name)
    assert result.progress.best_loss < 1.0
    same = zip(names["whole"].model.parameters(), names["parts"].model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    assert own_perplexity(names["whole"], text).all == pytest.approx(
        math.exp(result.progress.best_loss), rel=1e-3
    )


def test_sentences_break_at_blank_and_tab_alone(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa\x0cb\tc\r\n\x0b d\n")
    assert list(read_sentences(tmp_path / "text")) == [[b"a\x0cb", b"c"], [b"\x0b", b"d"]]


def test_vocabulary_of_a_text():
    text = [[b"b", b"a", b"b"], [b"a", b"c", b"d", b"d", b"d"]]
    assert text_vocabulary(text, 100, 2).words == (b"</s>", b"<unk>", b"d", b"a", b"b")
    assert text_vocabulary(text, 3, 1).words == (b"</s>", b"<unk>", b"d", b"a")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a b\n\nc\n", "text:2: empty line"), ("", "text: no text"), ("  \n", "text:1: empty line")],
)
def test_wrong_text(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(content)
    with pytest.raises(DataError) as error:
        list(read_sentences("text"))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": 1}, "order must be at least 2, not 1"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, not 1.0"),
        ({"second_hidden": 0}, "second_hidden must be at least 1, not 0"),
    ],
)
def test_wrong_sizes(wrong, message):
    with pytest.raises(UsageError) as error:
        tiny(**wrong)
    assert str(error.value) == message


def test_sizes_of_the_paper():
    """29.35 million parameters with a vocabulary of 15,000 (paper.md), and two more embeddings."""
    config = ModelConfig(
        2,
        15_000,
        architecture="cslm",
        embedding=512,
        hidden=1536,
        second_hidden=1024,
        output_rank=0,
    )
    with torch.device("meta"):
        network = build(config)
    count = sum(parameter.numel() for parameter in network.parameters())
    weights = 15_000 * 512 + 3072 * 1536 + 1536 * 1024 + 1024 * 15_000
    assert count == weights + 2 * 512 + 1536 + 1024 + 15_000
