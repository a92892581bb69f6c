"""Why gates were needed: how much of a loss at step T reaches the state at step t.

‖∂ loss_T / ∂ h_t‖ by distance T - t (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013), for
every cell, at the start and after training, and a task where the distance decides: say the first
word again after n others. Everything here is small and synthetic but for the sentences given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from phrase_scorer.errors import DataError
from phrase_scorer.models import ModelConfig
from phrase_scorer.models.cells import LongShortTermMemory, cell_of
from phrase_scorer.models.phrase_model import Affine
from phrase_scorer.studies.settings import StudySettings

ANSWERS = 8  # words that may stand first, in the copying task
FILLERS = 8  # words that may follow
BATCH = 64
MEASURED = 256  # sequences over which norms are averaged
TESTED = 1024  # sequences over which accuracy is
DEVIATION = 0.3  # of the input matrices at the start
TEXT_WORDS = 2000  # shortlist of the sentences
CLIPPED_DISTANCE = 20
DESCENT_RATE = 0.5  # of plain gradient descent, with and without clipping

Norms = list[float]  # by distance: of the last state first
NormsByCell = dict[str, dict[str, Norms]]  # and by part of the state


class Examples(NamedTuple):
    """Sequences, and the word that is to be said after the last step of each."""

    words: Tensor  # (time, rows) int64
    answers: Tensor  # (rows,) int64


Draw = Callable[[np.random.Generator, int], Examples]


class SequenceNetwork(nn.Module):
    """Embedding, one cell, softmax: what every measurement is made on."""

    def __init__(self, cell: str, words: int, settings: StudySettings, scale: float) -> None:
        super().__init__()
        bias = settings.forget_bias if cell == "lstm" else 0.0
        config = ModelConfig(1, words, cell=cell, hidden=settings.hidden, forget_bias=bias)
        self.embedding = Affine(words, settings.hidden, bias=False)
        # A GRU that is read like the others: its update gate takes the new state.
        self.cell = cell_of(config, settings.hidden, update_takes_new=True)
        self.output = Affine(settings.hidden, words)
        random = torch.Generator().manual_seed(settings.seed)
        self.cell.reset_parameters(DEVIATION, random)
        with torch.no_grad():
            self.cell.recurrent.mul_(scale)
            self.embedding.weight.normal_(0.0, DEVIATION, generator=random)
            self.output.weight.normal_(0.0, DEVIATION, generator=random)
            assert self.output.bias is not None
            self.output.bias.zero_()

    def states(self, words: Tensor) -> list[Tensor]:
        """The state after each word: (time, rows) -> time times (rows, state width)."""
        signals = self.cell.read(self.embedding.embed(words))
        state = self.cell.recurrent.new_zeros(words.shape[1], self.cell.state_width)
        found = []
        for step in signals.unbind(0):
            state = self.cell(step, state)
            found.append(state)
        return found

    def logits(self, state: Tensor) -> Tensor:
        """(rows, words) of the word that follows a state."""
        result: Tensor = self.output(self.cell.visible(state))
        return result


def copies(distance: int) -> Draw:
    """Sequences whose first word is to be said again after `distance` others."""

    def draw(random: np.random.Generator, rows: int) -> Examples:
        words = random.integers(ANSWERS, ANSWERS + FILLERS, (distance + 1, rows))
        words[0] = random.integers(0, ANSWERS, rows)
        return Examples(torch.from_numpy(words), torch.from_numpy(words[0].copy()))

    return draw


def sentences(lines: Sequence[Sequence[bytes]], words: int, steps: int) -> tuple[Draw, int]:
    """(sequences of `steps` words of text, each to be followed by its next word; words in all).

    The text is one long line, cut at random places, so that any distance can be measured; a
    DataError tells where it is too short.
    """
    text = [word for line in lines for word in (*line, b"</s>")]
    if len(text) <= steps + 1:
        raise DataError(f"{len(text)} words of text; more than {steps + 1} are needed")
    counts = Counter(text)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: words - 1]
    number = {word: i for i, word in enumerate(frequent)}
    ids = np.array([number.get(word, len(number)) for word in text])

    def draw(random: np.random.Generator, rows: int) -> Examples:
        starts = random.integers(0, len(ids) - steps, rows)
        places = starts + np.arange(steps + 1)[:, None]
        found = torch.from_numpy(ids[places])
        return Examples(found[:-1], found[-1].contiguous())

    return draw, len(number) + 1


def norms_by_distance(network: SequenceNetwork, examples: Examples) -> dict[str, Norms]:
    """Mean over sequences of ‖∂ loss_T / ∂ h_t‖ for T - t = 0, 1, …; "C": an LSTM's memory cell."""
    states = network.states(examples.words)
    logits = network.logits(states[-1])
    # A sum over sequences: each row of a gradient is that of its own sequence.
    loss = nn.functional.cross_entropy(logits, examples.answers, reduction="sum")
    gradients = torch.autograd.grad(loss, states)
    width = network.cell.hidden
    parts = {"h": slice(0, width)}
    if isinstance(network.cell, LongShortTermMemory):
        parts["C"] = slice(width, 2 * width)
    return {
        name: [float(gradient[:, part].norm(dim=1).mean()) for gradient in reversed(gradients)]
        for name, part in parts.items()
    }


@dataclass
class Training:
    """What came of training one network."""

    gradient_norms: list[float] = field(default_factory=list)  # per update, before clipping
    losses: list[float] = field(default_factory=list)  # per update, in nats
    accuracy: float = 0.0  # share of new sequences answered rightly


def train_network(
    network: SequenceNetwork,
    draw: Draw,
    settings: StudySettings,
    *,
    clip: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
) -> Training:
    """Trains a network on sequences that never come twice, with Adam unless told otherwise."""
    random = np.random.default_rng([settings.seed, 1])
    parameters = list(network.parameters())
    optimizer = optimizer or torch.optim.Adam(parameters, lr=settings.learning_rate)
    limit = settings.clip_norm if clip else torch.inf
    training = Training()
    for _ in range(settings.updates):
        examples = draw(random, BATCH)
        logits = network.logits(network.states(examples.words)[-1])
        loss = nn.functional.cross_entropy(logits, examples.answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        training.gradient_norms.append(float(nn.utils.clip_grad_norm_(parameters, limit)))
        training.losses.append(float(loss.detach()))
        optimizer.step()
    words, answers = draw(np.random.default_rng([settings.seed, 2]), TESTED)
    with torch.inference_mode():
        guesses = network.logits(network.states(words)[-1]).argmax(1)
        training.accuracy = float((guesses == answers).double().mean())
    return training


@dataclass
class Study:
    """All that was measured."""

    settings: StudySettings
    # Before training on copies, by scale; then after training at the longest distance.
    start: dict[str, NormsByCell] = field(default_factory=dict)
    trained: NormsByCell = field(default_factory=dict)
    # On the sentences, before and after training on them; empty without sentences.
    text_start: NormsByCell = field(default_factory=dict)
    text_trained: NormsByCell = field(default_factory=dict)
    # A vanilla RNN at the largest scale by plain gradient descent, with and without clipping.
    clipping: dict[str, Training] = field(default_factory=dict)
    copying: dict[str, dict[int, float]] = field(default_factory=dict)  # accuracy, by distance
    chance: float = 1 / ANSWERS  # accuracy of a guess

    @property
    def norms(self) -> dict[str, NormsByCell]:
        """All norms that were measured, by the circumstances."""
        found = {f"copies, at the start, × {scale}": cells for scale, cells in self.start.items()}
        found["copies, trained"] = self.trained
        if self.text_start:
            found["sentences, at the start"] = self.text_start
            found["sentences, trained"] = self.text_trained
        return found


def run_study(
    settings: StudySettings, lines: Sequence[Sequence[bytes]] | None = None
) -> Iterator[Study]:
    """Measures everything; yields the study after each part of `parts_of`, complete at the end."""
    study, words = Study(settings), ANSWERS + FILLERS
    draw_text, text_words = sentences(lines, TEXT_WORDS, settings.steps) if lines else (None, 0)
    measured = np.random.default_rng([settings.seed, 3])
    for scale in settings.scales:
        examples = copies(settings.steps - 1)(measured, MEASURED)
        study.start[f"{scale:g}"] = {
            cell: norms_by_distance(SequenceNetwork(cell, words, settings, scale), examples)
            for cell in settings.cells
        }
        yield study
    for cell in settings.cells:
        study.copying[cell] = {}
        for distance in settings.distances:
            network = SequenceNetwork(cell, words, settings, 1.0)
            training = train_network(network, copies(distance), settings)
            study.copying[cell][distance] = training.accuracy
            if distance == max(settings.distances):
                examples = copies(distance)(measured, MEASURED)
                study.trained[cell] = norms_by_distance(network, examples)
            yield study
    draw = copies(CLIPPED_DISTANCE)
    for name, clip in (("not clipped", False), ("clipped", True)):
        network = SequenceNetwork("rnn", words, settings, max(settings.scales))
        descent = torch.optim.SGD(network.parameters(), lr=DESCENT_RATE)
        study.clipping[name] = train_network(network, draw, settings, clip=clip, optimizer=descent)
        yield study
    if draw_text:
        for cell in settings.cells:
            network = SequenceNetwork(cell, text_words, settings, 1.0)
            examples = draw_text(measured, MEASURED)
            study.text_start[cell] = norms_by_distance(network, examples)
            train_network(network, draw_text, settings)
            study.text_trained[cell] = norms_by_distance(network, examples)
            yield study


def parts_of(settings: StudySettings, *, with_text: bool) -> int:
    """How often `run_study` yields."""
    cells = len(settings.cells)
    return len(settings.scales) + cells * len(settings.distances) + 2 + cells * with_text
