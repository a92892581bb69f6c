"""What the model is asked, against the model itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import save_model

from moses_integration.report.findings import Compared
from moses_integration.report.insight import DRAWS, insight
from moses_integration.report.survey import SurveyRequest, survey
from phrase_scorer.scoring.alignment import Aligner
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.phrase_pairs import PairBlock


@pytest.fixture(scope="module")
def found(table):
    return survey(SurveyRequest(str(table), 5, Compared(2, 4, -50.0), {}, show_progress=False))


@pytest.fixture(scope="module")
def asked(table, found):
    path = table.parent / "rnn"
    return insight(path, PhraseScorer.load(path, "cpu"), found, seed=1, maps=True)


def test_word_scores_sum_to_the_column(asked):
    assert {each.kind for each in asked.words} == {"worst", "random", "best"}
    for each in asked.words:
        assert len(each.words) == len(each.log_probs) == len(each.entry.target.split()) + 1
        assert np.exp(sum(each.log_probs)) == pytest.approx(each.entry.scores[4], rel=1e-4)
        assert [*each.unknown[:-1]] == [
            word not in ("the", "blue", "house", "black", "cat") for word in each.words[:-1]
        ]


def test_generated_targets_have_the_models_scores(asked, table):
    scorer = PhraseScorer.load(table.parent / "rnn", "cpu")
    (made, *_) = [each for each in asked.generated if each.source == "la maison bleue le"]
    scores = scorer.score([(made.source, said.text) for said in made.beam])
    assert [said.log_prob for said in made.beam] == pytest.approx(scores.tolist(), abs=1e-4)
    assert [s.log_prob for s in made.beam] == sorted((s.log_prob for s in made.beam), reverse=True)
    assert sum(said.count for said in made.drawn) <= DRAWS
    lines = [line.split(" ||| ") for line in table.read_text().splitlines()]
    known = {target for source, target, *_ in lines if source == made.source}
    assert all(said.in_table == (said.text in known) for said in (*made.beam, *made.drawn))
    assert made.table_length == pytest.approx(np.mean([len(t.split()) for t in known]))


def test_maps_have_all_words_and_near_ones(asked):
    words, phrases = asked.maps
    assert [point.text for point in words.points] == ["the", "blue", "house", "black", "cat"]
    assert all(len(point.neighbours) == 4 for point in words.points)
    assert len(phrases.points) == len({point.text for point in phrases.points})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"direction": "inverse"}, "what the network says, maps: the model is an inverse one"),
        (
            {"architecture": "attention"},
            "map of phrases: the model keeps no phrase as one vector",
        ),
    ],
)
def test_what_a_model_does_not_have_is_said(found, tmp_path, settings, why):
    path = save_model(tmp_path / "other", **settings)
    told = insight(path, PhraseScorer.load(path, "cpu"), found, seed=1, maps=True)
    assert told.missing == (why,)
    assert [each.name for each in told.maps] == ["words"] * (why[:3] == "map")
    assert told.words


def test_an_attention_model_tells_what_it_looks_at(found, tmp_path):
    path = save_model(tmp_path / "attention", architecture="attention")
    (first, *_) = insight(path, PhraseScorer.load(path, "cpu"), found, seed=1, maps=False).words
    pair = PairBlock([first.entry.source.encode().split()], [first.entry.target.encode().split()])
    (aligned,) = Aligner(path, torch.device("cpu")).alignments(pair)
    looked_at = [row.argmax() for row in aligned.weights]
    assert first.attended == tuple([*aligned.source[:-1], "end"][place] for place in looked_at)
    assert len(first.attended) == len(first.words)
    assert first.read == (*first.entry.source.split(), "end")
    assert np.allclose(first.weights, aligned.weights, atol=1e-4)
