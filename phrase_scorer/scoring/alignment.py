"""The soft alignment of attention models: which source words stand behind each target symbol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from phrase_scorer.errors import UsageError, printable
from phrase_scorer.models.attention import AttentionModel
from phrase_scorer.models.directory import ModelDirectory
from phrase_scorer.runtime.figures import Picture, drawn
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PairBlock, PhrasePairs
from phrase_scorer.text.vocabulary import SPECIAL_WORDS

PAIRS_AT_ONCE = 256
Phrases = Sequence[list[bytes]]
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
        sides, pairs = self._read(block)
        inverse = self.model.config.direction == "inverse"
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            rows = np.arange(start, min(start + PAIRS_AT_ONCE, len(pairs)))
            batch = pair_batch(pairs, rows, self.model.output.bias.device)
            for row, weights in zip(rows, self.model.alignment(batch).cpu().numpy(), strict=True):
                words, said = (_symbols(phrases[int(row)]) for phrases in sides)
                yield Alignment(words, said, weights[: len(said), : len(words)], inverse)

    @torch.inference_mode()
    def log_prob(self, block: PairBlock) -> float:
        """The natural-log probability of a block's first pair, in the model's direction."""
        _, first = self._read(PairBlock(block.sources[:1], block.targets[:1]))
        batch = pair_batch(first, np.arange(1), self.model.output.bias.device)
        return float(self.model.log_probs(batch).sum())

    def _read(self, block: PairBlock) -> tuple[tuple[Phrases, Phrases], PhrasePairs]:
        """Both sides as the model has them: first what it reads, then what it predicts."""
        sides = (block.sources, block.targets)
        if self.model.config.direction == "inverse":
            sides = sides[::-1]
        source, target = self._vocabularies
        return sides, PhrasePairs(source.ids(sides[0]), target.ids(sides[1]))


def _symbols(words: list[bytes]) -> list[str]:
    return [*(word.decode("utf-8", "surrogateescape") for word in words), END_SYMBOL]


@drawn
def alignment_picture(alignment: Alignment, log_prob: float) -> Picture:
    """The weights as a grid, as figure 3 of Bahdanau et al. 2015; `log_prob`: of the pair."""
    from matplotlib.figure import Figure

    rows, columns = alignment.weights.shape
    figure = Figure(figsize=(2.6 + 0.42 * columns, 1.6 + 0.42 * rows), layout="compressed")
    axes = figure.subplots()
    grid = axes.imshow(alignment.weights, cmap="magma_r", vmin=0, vmax=1)
    read, said = ("target", "source") if alignment.is_inverse else ("source", "target")
    axes.set_xticks(
        range(columns), map(printable, alignment.source), parse_math=False, rotation=45, ha="left",
        rotation_mode="anchor",
    )  # fmt: skip
    axes.set_yticks(range(rows), map(printable, alignment.target), parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel=f"{read} (read)", ylabel=f"{said} (predicted)")
    axes.spines[:].set_visible(False)
    figure.colorbar(grid, label="weight")
    title = f"ln p({said} | {read}) = {log_prob:.2f}"
    axes.set_title(title)
    links = (
        f"{word} to {alignment.source[place]}"
        for word, place in zip(alignment.target, alignment.weights.argmax(1), strict=True)
    )
    return Picture(figure, title, printable(f"Largest weights: {', '.join(links)}."))
