"""What follows each matrix product of the scoring engine: gates, maxout, the sum of exponentials.

Each function is a line of the model's equations over many rows, and stands here twice: written with
torch, which runs on any device and says what is right, and as one pass over memory (kernels.cpp,
through ctypes), 3 to 9 times as fast on CPUs. The latter is compiled when first wanted, where there
is a C++ compiler, and kept in $XDG_CACHE_HOME/phrase-scorer, else ~/.cache/phrase-scorer.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

LARGE_SHARE = 1 / 64  # of a sum of exponentials: not more than 64 terms have it


class Product(NamedTuple):
    """What a matrix product gives."""

    values: Tensor  # (rows, columns) float32 or bfloat16
    row_scale: Tensor | None = None  # (rows,) float32, to be multiplied with them; None: 1

    def real(self) -> Tensor:
        """(rows, columns) float32."""
        values = self.values.float()
        return values if self.row_scale is None else values * self.row_scale[:, None]


class ExactLogits(NamedTuple):
    """What logits are made of, not rounded: features[row] · by_word[word]."""

    features: Tensor  # (rows, rank) float32
    by_word: Tensor  # (words, rank) float32


class Places(NamedTuple):
    """For each row of a result, the rows of the tables it is made of, int64."""

    parent: Tensor  # in the products of the parents' states, and these states
    word: Tensor  # in the table of the words' signals
    source: Tensor  # in the table of the contexts

    def __len__(self) -> int:
        return len(self.parent)


class Epilogues:
    """The functions as torch has them."""

    def reset_after(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """The state after one more symbol; the reset gate acts on the product (models/cells.py).

        Args:
            recurrent: (parents, 3 hidden) h U, h U_z, h U_r.
            states: (parents, hidden) h.
            words: (words, 3 hidden) signals of the inputs.
            contexts: (sources, 3 hidden) signals of the contexts.
            places: Of each row of the result.
            takes_new: Which of the two the update gate weighs.
        """
        n = states.shape[1]
        u = recurrent.real().index_select(0, places.parent)
        u = u + contexts.index_select(0, places.source)
        w = words.index_select(0, places.word)
        update, reset = torch.sigmoid(u[:, n:] + w[:, n:]).chunk(2, dim=1)
        candidate = torch.tanh(torch.addcmul(w[:, :n], reset, u[:, :n]))
        return _interpolated(update, states.index_select(0, places.parent), candidate, takes_new)

    def reset_before_gates(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
    ) -> tuple[Tensor, Tensor]:
        """(update gate z, reset state r ∘ h), (rows, hidden) each.

        Args:
            recurrent: (parents, 2 hidden) h U_z, h U_r.
            states: (parents, hidden) h.
            words: (words, 3 hidden) signals of the inputs.
            contexts: (sources, 3 hidden) signals of the contexts, or None.
            places: Of each row of the result.
        """
        n = states.shape[1]
        u = recurrent.real().index_select(0, places.parent)
        u = u + words[:, n:].index_select(0, places.word)
        if contexts is not None:
            u = u + contexts[:, n:].index_select(0, places.source)
        update, reset = torch.sigmoid(u).chunk(2, dim=1)
        return update, reset * states.index_select(0, places.parent)

    def reset_before_state(
        self,
        recurrent: Product,
        updates: Tensor,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """The state after one more symbol, of (rows, hidden) products (r ∘ h) U and gates z."""
        n = states.shape[1]
        signals = recurrent.real() + words[:, :n].index_select(0, places.word)
        if contexts is not None:
            signals = signals + contexts[:, :n].index_select(0, places.source)
        old = states.index_select(0, places.parent)
        return _interpolated(updates, old, torch.tanh(signals), takes_new)

    def maxout(
        self, pieces: Product, words: Tensor, contexts: Tensor, word: Tensor, source: Tensor
    ) -> Tensor:
        """(rows, units): the larger of pieces i and units + i of O_h h' + O_y e(y) + O_c c."""
        sums = pieces.real() + words.index_select(0, word) + contexts.index_select(0, source)
        first, second = sums.chunk(2, dim=1)
        return torch.maximum(first, second)

    def quantize(self, values: Tensor, steps: float) -> Tensor:
        """int8: the nearest whole number of values * steps, which must lie from -127 to 127."""
        return (values * steps).round_().to(torch.int8)

    def two_digits(self, values: Tensor, steps: float, second_steps: float) -> Tensor:
        """(2 rows, columns) int8 of (rows, columns) values: first digits, then second digits.

        A second digit is the first one's rounding error, in `second_steps` steps.
        """
        scaled = values * steps
        first = scaled.round()
        second = ((scaled - first) * second_steps).round_()
        return torch.cat([first, second]).to(torch.int8)

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """Adds Σ_j exp(logit_j + bias_j); no maximum is subtracted, so inf and 0 may come of it.

        Args:
            sums: (rows,) changed in place.
            logits: (rows, words) perhaps rounded.
            bias: (words,).
            exact: If given, terms that are large among those so far are computed again from it.
        """
        terms = (logits.real() + bias).exp_()
        sums += terms.sum(1)
        if exact:
            rows, words = torch.nonzero(terms > LARGE_SHARE * sums[:, None], as_tuple=True)
            again = (exact.features[rows] * exact.by_word[words]).sum(1) + bias[words]
            sums.index_add_(0, rows, again.exp() - terms[rows, words])


class GpuEpilogues(Epilogues):
    """The same functions where no shape depends on a value: the host never waits for a GPU."""

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """As `Epilogues.add_sum_exp`; of a row, only the largest term is computed again."""
        terms = logits.real() + bias
        if exact:
            word = terms.argmax(1)
            again = (exact.features * exact.by_word.index_select(0, word)).sum(1) + bias[word]
            terms.scatter_(1, word[:, None], again[:, None])
        sums += terms.exp_().sum(1)


def _interpolated(update: Tensor, old: Tensor, candidate: Tensor, takes_new: bool) -> Tensor:
    return torch.lerp(old, candidate, update) if takes_new else torch.lerp(candidate, old, update)


SOURCE = Path(__file__).with_name("kernels.cpp")
LOG2_E = 1.4426950408889634
FLAGS = [
    *("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp-simd", "-fno-math-errno"),
    *(
        "-fno-trapping-math",
        "-ffinite-math-only",
        "-fno-signed-zeros",
        "-march=native",
        "-mprefer-vector-width=512",
    ),
]


@dataclass(frozen=True)
class NativeEpilogues(Epilogues):
    """The same functions of the compiled library, for contiguous tensors on the CPU."""

    library: ctypes.CDLL

    def reset_after(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """As `Epilogues.reset_after`."""
        result = states.new_empty(len(places), states.shape[1])
        self._call(
            "reset_after", recurrent, *result.shape, recurrent.values, states,
            places.parent, words, places.word, contexts, places.source, takes_new, result,
        )  # fmt: skip
        return result

    def reset_before_gates(
        self,
        recurrent: Product,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
    ) -> tuple[Tensor, Tensor]:
        """As `Epilogues.reset_before_gates`."""
        updates = states.new_empty(len(places), states.shape[1])
        reset_states = torch.empty_like(updates)
        self._call(
            "reset_before_gates", recurrent, *updates.shape, recurrent.values,
            states, places.parent, words, places.word, contexts, places.source, updates,
            reset_states,
        )  # fmt: skip
        return updates, reset_states

    def reset_before_state(
        self,
        recurrent: Product,
        updates: Tensor,
        states: Tensor,
        words: Tensor,
        contexts: Tensor | None,
        places: Places,
        *,
        takes_new: bool,
    ) -> Tensor:
        """As `Epilogues.reset_before_state`."""
        result = torch.empty_like(updates)
        self._call(
            "reset_before_state", recurrent, *result.shape, recurrent.values,
            updates, states, places.parent, words, places.word, contexts, places.source,
            takes_new, result,
        )  # fmt: skip
        return result

    def maxout(
        self, pieces: Product, words: Tensor, contexts: Tensor, word: Tensor, source: Tensor
    ) -> Tensor:
        """As `Epilogues.maxout`."""
        result = words.new_empty(len(word), words.shape[1] // 2)
        self._call(
            "maxout", pieces, *result.shape, pieces.values, words, word, contexts,
            source, result,
        )  # fmt: skip
        return result

    def quantize(self, values: Tensor, steps: float) -> Tensor:
        """As `Epilogues.quantize`."""
        result = values.new_empty(values.shape, dtype=torch.int8)
        self._run("quantize", values.numel(), values, steps, result)
        return result

    def two_digits(self, values: Tensor, steps: float, second_steps: float) -> Tensor:
        """As `Epilogues.two_digits`."""
        rows, columns = values.shape
        result = values.new_empty(2 * rows, columns, dtype=torch.int8)
        self._run("two_digits", values.numel(), values, steps, second_steps, result)
        return result

    def add_sum_exp(
        self, sums: Tensor, logits: Product, bias: Tensor, exact: ExactLogits | None
    ) -> None:
        """As `Epilogues.add_sum_exp`."""
        features, by_word = exact or (None, None)
        binary_bias = bias * LOG2_E
        self._call(
            "sum_exp", logits, *logits.values.shape, 0 if features is None else features.shape[1],
            logits.values, logits.row_scale, binary_bias, features, by_word,
            LARGE_SHARE, sums,
        )  # fmt: skip

    def _call(self, name: str, product: Product, *arguments: Tensor | float | None) -> None:
        kind = "bfloat16" if product.values.dtype == torch.bfloat16 else "float"
        self._run(f"{name}_{kind}", *arguments)

    def _run(self, name: str, *arguments: Tensor | float | None) -> None:
        self.library[name](*map(_c_argument, arguments))


def _c_argument(
    argument: Tensor | float | None,
) -> ctypes.c_int64 | ctypes.c_float | ctypes.c_void_p:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_void_p(None) if argument is None else ctypes.c_int64(argument)


def epilogues_for(device: torch.device) -> Epilogues:
    """The fastest there are for a device."""
    if device.type != "cpu":
        return GpuEpilogues()
    return native_epilogues() or Epilogues()


@functools.cache
def native_epilogues() -> NativeEpilogues | None:
    """The compiled functions; None where there is no C++ compiler, or it fails.

    The compiler is $CXX, else c++. PHRASE_SCORER_NATIVE=0 in the environment does without.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or os.environ.get("PHRASE_SCORER_NATIVE") == "0":
        return None
    try:
        return NativeEpilogues(ctypes.CDLL(os.fspath(_compiled(compiler))))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(compiler: str) -> Path:
    """The library, compiled now unless it stands in the cache folder."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phrase-scorer"
    known = [SOURCE.read_text(), compiler, str(os.stat(compiler).st_mtime_ns), *FLAGS, _processor()]
    name = f"epilogues-{hashlib.sha256('|'.join(known).encode()).hexdigest()[:16]}.so"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            command = [compiler, *FLAGS, "-o", os.fspath(made), os.fspath(SOURCE)]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            made.replace(folder / name)  # whole or not at all, whoever else compiles it now
    return folder / name


def _processor() -> str:
    """What -march=native means here, so that a folder shared by several machines serves all."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()
