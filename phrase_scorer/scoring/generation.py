"""Targets of a source phrase: the likeliest ones by beam search, or drawn at random.

(Cho et al. 2014, section 4.4 and table 3: samples from the model.) Works with every architecture
that predicts each symbol from those before it. Probabilities are those of scoring: words and end
symbol, natural logarithms, no length normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phrase_scorer.errors import UsageError, require_at_least
from phrase_scorer.models import ARCHITECTURES, PhraseModel
from phrase_scorer.models.phrase_model import Parts, take
from phrase_scorer.text.batches import source_batch
from phrase_scorer.text.phrase_pairs import PhraseIds
from phrase_scorer.text.vocabulary import END, UNKNOWN

LONGEST = 20  # words of a target; tables have phrases of up to 7
SAMPLES_AT_ONCE = 1024


@dataclass(frozen=True)
class Generated:
    """One target."""

    words: tuple[int, ...]  # ids, without the end symbol
    log_prob: float  # ln p(target | source), end symbol included
    count: int = 1  # how often it was drawn; 1 in beam search


class Generator:
    """A model, on its device, that makes targets of up to `longest` words.

    A UsageError tells of a model that does not predict symbol by symbol, or, here or in a search,
    of a number out of range.
    """

    def __init__(
        self, model: PhraseModel, *, longest: int = LONGEST, allow_unknown: bool = False
    ) -> None:
        if not model.is_stepwise:
            able = ", ".join(name for name, kind in ARCHITECTURES.items() if kind.is_stepwise)
            architecture = model.config.architecture
            raise UsageError(f"a model of architecture {architecture} cannot generate; {able} can")
        require_at_least(1, "--max-words", longest)
        self.model = model
        self.longest = longest
        self.allow_unknown = allow_unknown
        self._device = model.output.bias.device

    def _log_probs(self, memory: Parts, state: Parts) -> Tensor:
        """(rows, words) natural-log probabilities of the next symbol."""
        logits: Tensor = self.model.output(self.model.predict(memory, state))
        return logits.log_softmax(1)

    def _start(self, source: Sequence[int], rows: int) -> tuple[Parts, Parts]:
        phrases = PhraseIds(np.array(source, np.int32), np.array([0, len(source)], np.int64))
        memory = self.model.read(source_batch(phrases, np.zeros(1, np.int64), self._device))
        first = torch.zeros(rows, dtype=torch.int64, device=self._device)
        memory = take(memory, first)
        return memory, self.model.start(memory)

    @torch.inference_mode()
    def search(self, source: Sequence[int], beam: int) -> list[Generated]:
        """The likeliest targets found with a beam of this width, the likeliest first.

        A finished hypothesis competes until no unfinished one is likelier: a longer one cannot
        gain. With a beam as wide as there are targets, the search is exhaustive. `source` has no
        end symbol; `beam` is also how many targets are returned at most.
        """
        require_at_least(1, "--beam", beam)
        memory, state = self._start(source, 1)
        alive = torch.zeros(1, dtype=torch.float64, device=self._device)
        words: list[tuple[int, ...]] = [()]
        finished: list[Generated] = []
        for length in range(self.longest + 1):
            log_probs = alive[:, None] + self._log_probs(memory, state).double()
            ends = log_probs[:, END].tolist()
            finished += [Generated(w, end) for w, end in zip(words, ends, strict=True)]
            finished = sorted(finished, key=lambda g: (-g.log_prob, g.words))[:beam]
            if length == self.longest:
                break
            log_probs[:, END] = -torch.inf
            if not self.allow_unknown:
                log_probs[:, UNKNOWN] = -torch.inf
            best = log_probs.flatten().topk(min(beam, log_probs.numel()))
            worst = finished[-1].log_prob if len(finished) == beam else -np.inf
            kept = best.values > max(worst, torch.finfo(torch.float64).min)
            if not kept.any():
                break
            alive = best.values[kept]
            parents = best.indices[kept] // log_probs.shape[1]
            chosen = best.indices[kept] % log_probs.shape[1]
            following = zip(parents.tolist(), chosen.tolist(), strict=True)
            words = [(*words[parent], word) for parent, word in following]
            memory = take(memory, parents)
            state = self.model.advance(memory, take(state, parents), chosen)
        return finished

    @torch.inference_mode()
    def sample(
        self, source: Sequence[int], count: int, *, temperature: float = 1.0, seed: int = 1
    ) -> list[Generated]:
        """Targets drawn at random, the likeliest first, each with how often it was drawn.

        Of the `count` drawn, those longer than `longest` words are not returned. Logits are divided
        by the temperature: below 1 the likely become likelier. `source` has no end symbol.
        """
        require_at_least(1, "--sample", count)
        if not 0 < temperature < np.inf:
            raise UsageError(f"--temperature must be above 0, not {temperature}")
        random = torch.Generator(self._device).manual_seed(seed)
        drawn: list[tuple[tuple[int, ...], float]] = []
        for start in range(0, count, SAMPLES_AT_ONCE):
            rows = min(SAMPLES_AT_ONCE, count - start)
            drawn += self._draw(source, rows, temperature, random)
        counts = Counter(target for target, _ in drawn)
        found = [Generated(target, value, counts[target]) for target, value in dict(drawn).items()]
        return sorted(found, key=lambda g: (-g.log_prob, g.words))

    def _draw(
        self, source: Sequence[int], rows: int, temperature: float, random: torch.Generator
    ) -> list[tuple[tuple[int, ...], float]]:
        memory, state = self._start(source, rows)
        total = torch.zeros(rows, dtype=torch.float64, device=self._device)
        words: list[tuple[int, ...]] = [()] * rows
        finished: list[tuple[tuple[int, ...], float]] = []
        for length in range(self.longest + 1):
            log_probs = self._log_probs(memory, state)
            wanted = log_probs.double()
            if not self.allow_unknown:
                wanted[:, UNKNOWN] = -torch.inf
            wanted = (wanted - wanted.amax(1, keepdim=True)) / temperature
            chosen = torch.multinomial(wanted.softmax(1), 1, generator=random)
            total += log_probs.gather(1, chosen).squeeze(1).double()
            symbols, sums = chosen.squeeze(1).tolist(), total.tolist()
            finished += [
                (w, s) for w, s, symbol in zip(words, sums, symbols, strict=True) if symbol == END
            ]
            alive = [row for row, symbol in enumerate(symbols) if symbol != END]
            if not alive or length == self.longest:
                break
            words = [(*words[row], symbols[row]) for row in alive]
            places = torch.tensor(alive, device=self._device)
            memory, total = take(memory, places), total.index_select(0, places)
            following = chosen.squeeze(1).index_select(0, places)
            state = self.model.advance(memory, take(state, places), following)
        return finished
