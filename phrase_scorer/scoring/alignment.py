"""The soft alignment of attention models: which source words stand behind each target symbol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from phrase_scorer.errors import UsageError
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.report import save_figure
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import SPECIAL_WORDS

PAIRS_AT_ONCE = 256
END_SYMBOL = SPECIAL_WORDS[0].decode()


@dataclass(frozen=True)
class Alignment:
    """The soft alignment of one pair, in the model's direction."""

    source: list[str]  # the words that the model reads, then the end symbol
    target: list[str]  # the words that it predicts, then the end symbol
    weights: npt.NDArray[np.float32]  # (target symbols, source symbols); each row sums to one
    is_inverse: bool = False  # whether the model reads the target language

    def as_json(self) -> str:
        """An object with source, target and weights, on one line."""
        rows = [[round(weight, 4) for weight in row] for row in self.weights.tolist()]
        content = {"source": self.source, "target": self.target, "weights": rows}
        return json.dumps(content, ensure_ascii=False)  # bytes that are no UTF-8 stay as they came

    def as_pharaoh(self) -> str:
        """`i-j` for each word that the model predicts, with the likeliest word that it reads.

        i is of the source, j of the target, as the pair was given. End symbols are left out.
        """
        best = self.weights[:-1, :-1].argmax(1).tolist() if len(self.source) > 1 else []
        links = ((j, i) if self.is_inverse else (i, j) for j, i in enumerate(best))
        return " ".join(f"{i}-{j}" for i, j in links)


class Aligner:
    """The attention model of a directory, ready to align.

    Raises:
        ModelError: The directory is incomplete or broken.
        UsageError: The model has no attention.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        directory = ModelDirectory(Path(path))
        model = directory.load_model()
        if not isinstance(model, AttentionModel):
            architecture = model.config.architecture
            raise UsageError(
                f"{path}: a model of architecture {architecture} has no soft alignment; train one "
                "with --architecture attention"
            )
        self.model = model.to(device)
        self._vocabularies = directory.vocabularies()

    @torch.inference_mode()
    def alignments(self, block: PairBlock) -> Iterator[Alignment]:
        """The alignment of each pair, in the order of the block."""
        inverse = self.model.config.direction == "inverse"
        sides = (block.targets, block.sources) if inverse else (block.sources, block.targets)
        source, target = self._vocabularies
        pairs = PhrasePairs(source.ids(sides[0]), target.ids(sides[1]))
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            rows = np.arange(start, min(start + PAIRS_AT_ONCE, len(pairs)))
            batch = pair_batch(pairs, rows, self.model.output.bias.device)
            for row, weights in zip(rows, self.model.alignment(batch).cpu().numpy(), strict=True):
                words, said = (_symbols(phrases[row]) for phrases in sides)
                yield Alignment(words, said, weights[: len(said), : len(words)], inverse)


def _symbols(words: list[bytes]) -> list[str]:
    return [*(word.decode("utf-8", "surrogateescape") for word in words), END_SYMBOL]


def plot_alignment(alignment: Alignment, path: str | Path) -> None:
    """Draws the weights as a grid, as figure 3 of Bahdanau et al. 2015; see `save_figure`."""
    from matplotlib.figure import Figure

    rows, columns = alignment.weights.shape
    figure = Figure(figsize=(1.5 + 0.5 * columns, 1.5 + 0.4 * rows))
    axes = figure.subplots()
    axes.imshow(alignment.weights, cmap="gray_r", vmin=0, vmax=1)
    axes.set_xticks(
        range(columns), [_printable(w) for w in alignment.source], rotation=60, parse_math=False
    )
    axes.set_yticks(range(rows), [_printable(w) for w in alignment.target], parse_math=False)
    axes.xaxis.tick_top()
    save_figure(figure, path)


def _printable(word: str) -> str:
    return word.encode("utf-8", "replace").decode()
