"""On a GPU: scores of every architecture, a training, and the table of two processes.

The CPU is the witness, whose engines are tested against the equations.
"""

from __future__ import annotations

import gzip
import itertools
import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from toys import DATA, SOURCE_WORDS, TARGET_WORDS, program, tiny_model, toy_lines

from phrase_scorer.models import CELLS
from phrase_scorer.models.config import SUMMARIZING
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.runtime.workers import SMALL_INPUT
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

SYSTEMS = [
    *itertools.product(("encoder_decoder", "seq2seq", "attention"), CELLS),
    ("transformer", "gru"),
    ("decoder_only", "gru"),
    ("masked", "gru"),
]
SOURCES, TARGETS = Vocabulary(SOURCE_WORDS), Vocabulary(TARGET_WORDS)
TABLE = DATA / "model" / "phrase-table.gz"
PAIRS = [tuple(part.decode() for part in line.split(b" ||| ")[:2]) for line in toy_lines(2000)]


@pytest.fixture(scope="module", params=SYSTEMS, ids="-".join)
def model(request):
    architecture, cell = request.param
    sizes = {"hidden": 64, "source_words": len(SOURCES), "target_words": len(TARGETS)}
    if architecture in ("transformer", "decoder_only", "masked"):
        sizes |= {"heads": 4, "feed_forward": 96}
    # Larger weights saturate the cells, and then rounding alone makes more than 1e-4 nats.
    return tiny_model(architecture=architecture, cell=cell, deviation=0.1, **sizes)


@pytest.mark.parametrize(
    ("precision", "mean", "most"),
    [("float32", 2e-5, 1e-4), ("bfloat16", 0.02, 0.5)],
)
def test_scores_are_those_of_the_cpu(model, precision, mean, most):
    expected, found = (
        PhraseScorer(deepcopy(model), SOURCES, TARGETS, arithmetic=arithmetic).score(PAIRS)
        for arithmetic in (Arithmetic("cpu"), Arithmetic("cuda", precision))
    )
    errors = np.abs(found - expected)
    assert errors.mean() <= mean
    assert errors.max() <= most


def test_vectors_are_those_of_the_cpu(model):
    scorers = [
        PhraseScorer(deepcopy(model), SOURCES, TARGETS, arithmetic=Arithmetic(device))
        for device in ("cpu", "cuda")
    ]
    for side in ("source", "target"):
        expected, found = (scorer.embeddings(side) for scorer in scorers)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    if model.config.architecture in SUMMARIZING:
        expected, found = (scorer.vectors([source for source, _ in PAIRS]) for scorer in scorers)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of 200 updates on the GPU."""
    path = tmp_path_factory.mktemp("cuda") / "rnn"
    shape = ["--hidden", "64", "--embedding", "32", "--batch-pairs", "128", "--device", "cuda"]
    done = program("train", TABLE, "--model", path, *shape, "--max-updates", "200", "--quiet")
    assert done.returncode == 0, done.stderr
    return path


def test_training_learns(trained):
    log = [json.loads(line) for line in (trained / "training_log.jsonl").read_text().splitlines()]
    losses = [line["train_loss"] for line in log if "train_loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_a_table_of_several_processes(trained, tmp_path):
    """Two processes that share the GPU write the bytes of one, and nearly those of the CPU."""
    tables = {}
    assert TABLE.stat().st_size >= SMALL_INPUT  # else one process does it all
    for name, device, processes in (
        ("one", "cuda", 1),
        ("two", "cuda,cuda:0", 2),
        ("cpu", "cpu", 1),
    ):
        out = tmp_path / f"{name}.gz"
        threads = ["--device", device, "--threads", str(processes), "--quiet"]
        done = program("rescore", TABLE, out, "--model", trained, *threads)
        assert done.returncode == 0, done.stderr
        tables[name] = gzip.decompress(out.read_bytes())
    assert tables["one"] == tables["two"]
    columns = [
        np.log([float(line.split(b" ||| ")[2].split()[-1]) for line in tables[name].splitlines()])
        for name in ("one", "cpu")
    ]
    np.testing.assert_allclose(*columns, rtol=0, atol=1e-4)
