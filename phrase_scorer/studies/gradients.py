"""Why gates were needed: how much of a loss at step T reaches the state at step t.

‖∂ loss_T / ∂ h_t‖ by distance T - t (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013), for
every cell, at the start and after training, and a task where the distance decides: say the first
word again after n others. Everything here is small and synthetic but for the sentences given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.models import CELLS, ModelConfig
from phrase_scorer.models.cells import LongShortTermMemory, cell_of
from phrase_scorer.models.phrase_model import Affine

ANSWERS = 8  # words that may stand first, in the copying task
FILLERS = 8  # words that may follow
BATCH = 64
MEASURED = 256  # sequences over which norms are averaged
TESTED = 1024  # sequences over which accuracy is
DEVIATION = 0.3  # of the input matrices at the start

Norms = list[float]  # by distance: of the last state first


class Examples(NamedTuple):
    """Sequences, and the word that is to be said after the last step of each."""

    words: Tensor  # (time, rows) int64
    answers: Tensor  # (rows,) int64


Draw = Callable[[np.random.Generator, int], Examples]


@dataclass(frozen=True)
class StudySettings:
    """What is measured, and how networks are trained for it.

    Attributes:
        cells: Names of `CELLS`.
        scales: What the orthogonal recurrent matrices are multiplied with at the start.
        distances: Words between the first and the answer, in the copying task.
        steps: Length of the sequences on which norms are measured at the start.
        hidden: Units of each cell.
        updates: Of each training.
        learning_rate: Of Adam.
        clip_norm: Where the gradient is clipped; without clipping it is not.
        forget_bias: Where an LSTM's forget gates start.
        seed: Of all that is random.

    Raises:
        UsageError: Nothing to measure, or a number below 1.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    scales: tuple[float, ...] = (0.7, 1.0, 2.0)
    distances: tuple[int, ...] = (5, 10, 20, 40, 80)
    steps: int = 60
    hidden: int = 64
    updates: int = 1000
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    forget_bias: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("cells", "scales", "distances"):
            if not getattr(self, name):
                raise UsageError(f"no {name}")
        for cell in self.cells:
            if cell not in CELLS:
                raise UsageError(f"unknown cell {cell!r}; choose from {', '.join(CELLS)}")
        for name in ("steps", "hidden", "updates"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.distances) < 1:
            raise UsageError(f"distances must be at least 1, not {min(self.distances)}")
        for scale in self.scales:
            if not 0 < scale < math.inf:
                raise UsageError(f"scales must be above 0, not {scale}")


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

    The text is one long line, cut at random places, so that any distance can be measured.

    Raises:
        DataError: There is too little text.
    """
    text = [word for line in lines for word in (*line, b"</s>")]
    if len(text) <= steps + 1:
        raise DataError(f"{len(text)} words of text; more than {steps + 1} are needed")
    known, counts = np.unique(np.array(text, object), return_counts=True)
    frequent = known[np.argsort(-counts, kind="stable")[: words - 1]].tolist()
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
    # A sum over sequences: each row of a gradient is that of its own sequence.
    loss = nn.functional.cross_entropy(
        network.logits(states[-1]), examples.answers, reduction="sum"
    )
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
    """What came of training one network.

    Attributes:
        gradient_norms: Of each update, before clipping.
        losses: Of each update, in nats.
        accuracy: Share of new sequences answered rightly.
    """

    gradient_norms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0


def train(
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
    training.accuracy = accuracy(network, draw(np.random.default_rng([settings.seed, 2]), TESTED))
    return training


@torch.inference_mode()
def accuracy(network: SequenceNetwork, examples: Examples) -> float:
    """Share of the answers that are the network's likeliest word."""
    guesses = network.logits(network.states(examples.words)[-1]).argmax(1)
    return float((guesses == examples.answers).double().mean())


@dataclass
class Study:
    """All that was measured; what gradients.json has.

    Attributes:
        start: Norms by distance before training on copies, by scale, cell and part.
        trained: The same after training on copies at the longest distance.
        text_start: Norms on the sentences before training; empty without sentences.
        text_trained: After training on them.
        clipping: Trainings of a vanilla RNN at the largest scale by plain gradient descent, with
            and without clipping.
        copying: Accuracy by cell and distance.
        chance: Accuracy of a guess.
    """

    settings: StudySettings
    start: dict[str, dict[str, dict[str, Norms]]] = field(default_factory=dict)
    trained: dict[str, dict[str, Norms]] = field(default_factory=dict)
    text_start: dict[str, dict[str, Norms]] = field(default_factory=dict)
    text_trained: dict[str, dict[str, Norms]] = field(default_factory=dict)
    clipping: dict[str, Training] = field(default_factory=dict)
    copying: dict[str, dict[int, float]] = field(default_factory=dict)
    chance: float = 1 / ANSWERS


TEXT_WORDS = 2000  # shortlist of the sentences
CLIPPED_DISTANCE = 20
DESCENT_RATE = 0.5  # of plain gradient descent, with and without clipping


def run_study(
    settings: StudySettings, lines: Sequence[Sequence[bytes]] | None = None
) -> Iterator[Study]:
    """Measures everything; yields the study after each part of `parts_of`, complete at the end.

    Raises:
        DataError: Too little text in `lines`.
    """
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
            training = train(network, copies(distance), settings)
            study.copying[cell][distance] = training.accuracy
            if distance == max(settings.distances):
                examples = copies(distance)(measured, MEASURED)
                study.trained[cell] = norms_by_distance(network, examples)
            yield study
    for clip in (False, True):
        network = SequenceNetwork("rnn", words, settings, max(settings.scales))
        descent = torch.optim.SGD(network.parameters(), lr=DESCENT_RATE)
        draw = copies(CLIPPED_DISTANCE)
        name = "clipped" if clip else "not clipped"
        study.clipping[name] = train(network, draw, settings, clip=clip, optimizer=descent)
        yield study
    if draw_text:
        for cell in settings.cells:
            network = SequenceNetwork(cell, text_words, settings, 1.0)
            examples = draw_text(measured, MEASURED)
            study.text_start[cell] = norms_by_distance(network, examples)
            train(network, draw_text, settings)
            study.text_trained[cell] = norms_by_distance(network, examples)
            yield study


def parts_of(settings: StudySettings, *, with_text: bool) -> int:
    """How often `run_study` yields."""
    cells = len(settings.cells)
    return len(settings.scales) + cells * len(settings.distances) + 2 + cells * with_text
