"""Sequence to sequence against stacked torch.nn cells, in float64, a pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import phrase_pairs, tiny_model

from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.vocabulary import END

PAIRS = [([2, 3, 4], [5, 6]), ([11], [8]), ([7, 7, 2, 5, 3, 1, 10], [2]), ([4, 1], []), ([], [3])]
KINDS = {"lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}


def torch_stack(cells, kind):
    """torch.nn's stacked network with the same weights."""
    network = kind(cells[0].input.shape[0], cells[0].hidden, num_layers=len(cells)).double()
    with torch.no_grad():
        for layer, cell in enumerate(cells):
            getattr(network, f"weight_ih_l{layer}").copy_(cell.input.T)
            getattr(network, f"weight_hh_l{layer}").copy_(cell.recurrent.T)
            getattr(network, f"bias_ih_l{layer}").copy_(cell.bias)
            getattr(network, f"bias_hh_l{layer}").zero_()
    return network.requires_grad_(False)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("rank", [0, 2])
def test_is_two_networks_of_torch(cell, layers, rank):
    model = tiny_model(
        architecture="seq2seq", cell=cell, layers=layers, output_rank=rank, dtype=torch.float64
    )
    encoder, decoder = (torch_stack(s, KINDS[cell]) for s in (model.encoder, model.decoder))
    pairs = phrase_pairs(PAIRS)
    batch = pair_batch(pairs, np.arange(len(PAIRS)))
    found, summaries = model.log_probs(batch), model.summaries(batch.source)
    for line, summary, (source, target) in zip(found, summaries, PAIRS, strict=True):
        _, last = encoder(model.source_embedding.embed(torch.tensor([*source[::-1], END])))
        highest = last[0][-1] if cell == "lstm" else last[-1]
        torch.testing.assert_close(summary, highest, rtol=0, atol=1e-12)
        states, _ = decoder(model.target_embedding.embed(torch.tensor([END, *target])), last)
        units = states if rank == 0 else states @ model.output.left
        expected = (units @ model.output.right + model.output.bias).log_softmax(1)
        expected = expected.gather(1, torch.tensor([[*target, END]]).T)[:, 0]
        torch.testing.assert_close(line[: len(expected)], expected, rtol=0, atol=1e-12)
        assert not line[len(expected) :].any()
