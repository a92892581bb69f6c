"""The continuous-space language model: a feed-forward n-gram network over target words alone.

(Bengio et al. 2003; Schwenk 2007; Cho et al. 2014, section 4.1.2: seven-grams, six embeddings of
512, two layers of 1536 and 1024 rectified units.) It is a `PhraseModel` whose source says nothing,
so that it is trained, kept and scored by the same code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from phrase_scorer.models.config import ModelConfig
from phrase_scorer.models.phrase_model import Affine, Output, Parts, PhraseModel
from phrase_scorer.text.batches import Batch, Sources


class ContinuousSpaceModel(PhraseModel):
    """p(w_t | w_{t-n+1} … w_{t-1}): embeddings side by side, two ReLU layers, softmax.

    Before a sentence stand `order` - 1 start symbols. A history may also be shorter than that, as
    those of a back-off model's lower orders are: then symbols that stand for nothing come first. In
    training a share `short_histories` of the contexts is cut like this.
    """

    reads_source = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.history = config.order - 1  # words that are read
        self.start_symbol = config.target_words
        self.no_word = config.target_words + 1
        self.embedding = Affine(config.target_words + 2, config.embedding, bias=False)
        self.first = Affine(self.history * config.embedding, config.hidden)
        self.second = Affine(config.hidden, config.second_hidden)
        self.output = Output(config.second_hidden, config)

    def reset_parameters(self, deviation: float, generator: torch.Generator | None = None) -> None:
        """Weights uniform in ±deviation (the paper: 0.01), biases 0.

        With deviation 0: N(0, 2 / inputs) in the ReLU layers (He et al. 2015), embeddings from
        N(0, 1), the output matrix from N(0, 1 / inputs).
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                elif deviation:
                    parameter.uniform_(-deviation, deviation, generator=generator)
                elif name.startswith("embedding"):
                    parameter.normal_(0.0, 1.0, generator=generator)
                else:
                    gain = 2.0 if name.startswith(("first", "second")) else 1.0
                    spread = math.sqrt(gain / len(parameter))
                    parameter.normal_(0.0, spread, generator=generator)

    def context_features(self, contexts: Tensor) -> Tensor:
        """(rows, order - 1) int64 ids, the oldest first -> (rows, rank)."""
        drop = self.config.dropout
        x = self.embedding.embed(contexts).flatten(1)
        x = nn.functional.dropout(torch.relu(self.first(x)), drop, self.training)
        x = nn.functional.dropout(torch.relu(self.second(x)), drop, self.training)
        return self.output.features(x)

    def contexts(self, batch: Batch) -> Tensor:
        """(symbols, order - 1) the history of each target symbol."""
        words = batch.target.words
        starts = words.new_full((self.history, words.shape[1]), self.start_symbol)
        histories = torch.cat([starts, words[:-1]]).unfold(0, self.history, 1)
        return histories.flatten(0, 1).index_select(0, batch.target.symbols)

    @override
    def features(self, batch: Batch) -> Tensor:
        contexts = self.contexts(batch)
        if self.training and self.config.short_histories:
            contexts = self._shortened(contexts)
        return self.context_features(contexts)

    def _shortened(self, contexts: Tensor) -> Tensor:
        """Some histories cut to 0 … order - 2 words, chosen at random."""
        rows = len(contexts)
        cut = torch.rand(rows, device=contexts.device) < self.config.short_histories
        kept = torch.randint(0, self.history, (rows,), device=contexts.device)
        age = torch.arange(self.history, 0, -1, device=contexts.device)
        return contexts.masked_fill(cut[:, None] & (age > kept[:, None]), self.no_word)

    def read(self, sources: Sources) -> Parts:
        """Nothing, for each source phrase."""
        return (sources.words.new_zeros(sources.words.shape[1], 0),)

    def start(self, memory: Parts) -> Parts:
        """The history of the first word: (rows, order - 1) ids."""
        shape = (len(memory[0]), self.history)
        return (torch.full(shape, self.start_symbol, device=memory[0].device),)

    def advance(self, memory: Parts, state: Parts, words: Tensor) -> Parts:
        """The history with one more word."""
        return (torch.cat([state[0][:, 1:], words[:, None]], 1),)

    @override
    def predict(self, memory: Parts, state: Parts) -> Tensor:
        return self.context_features(state[0])
