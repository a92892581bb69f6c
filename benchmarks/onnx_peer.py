"""The scoring engine against ONNX Runtime and OpenVINO, as a user would pick them.

    pip install onnx onnxruntime openvino
    python benchmarks/onnx_peer.py phrase-table.gz [--entries 4096] [--preset paper] [--rounds 3]

Both run the very model, as one graph of ONNX: variant groundhog, whose cell is ONNX's GRU (the
paper's form has none there), with random weights. Pairs are sorted by length and padded in batches;
of a batch only the target's symbols reach the output matrix. One thread; each round measures every
system once, in turn, in processor seconds. The careful scorer is that of scoring.py, in PyTorch.
Where a package is missing, its rows are left out, which is told.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scoring import CAREFUL_BATCH, PRECISIONS, careful_scores, pairs_of, random_model, read_pairs

from phrase_scorer.models import EncoderDecoder, build
from phrase_scorer.models.cells import GatedRecurrentUnit
from phrase_scorer.runtime.device import Arithmetic
from phrase_scorer.scoring.precision import instructions
from phrase_scorer.scoring.scorer import PhraseScorer
from phrase_scorer.text.batches import pair_batch
from phrase_scorer.text.phrase_pairs import PhrasePairs
from phrase_scorer.training.settings import PRESET_NAMES

Feed = dict[str, np.ndarray]
Run = Callable[[Feed], np.ndarray]


class Graph:
    """A model of variant groundhog, in ONNX.

    Inputs: source (time, pairs), lengths (pairs,), previous (time, pairs); of each target symbol
    its row in (time, pairs), its pair, its word. Output: (symbols,) ln p.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        self._model, self._nodes, self._constants = model, [], []

    def write(self, path: Path) -> None:
        """Leaves the checked graph in a file."""
        import onnx
        from onnx import TensorProto, helper

        hidden = self._model.config.hidden
        summary = self._summary(hidden)
        initial = self("Tanh", self._affine(summary, self._model.initial_state))
        self._readout(summary, *self._decoder(summary, initial, hidden))
        shapes = {"source": "sb", "lengths": "b", "previous": "tb"}
        shapes |= dict.fromkeys(("symbols", "phrases", "words"), "n")
        inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.INT32 if name == "lengths" else TensorProto.INT64, list(shape)
            )
            for name, shape in shapes.items()
        ]
        output = helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["n"])
        graph = helper.make_graph(self._nodes, "model", inputs, [output], self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        made.ir_version = 9
        onnx.checker.check_model(made)
        onnx.save(made, str(path))

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **options: Any) -> Any:
        """Adds a node; the names of its results."""
        from onnx import helper

        names = [f"{kind}{len(self._nodes)}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, **options))
        return names[0] if outputs == 1 else names

    def _constant(self, values: torch.Tensor | np.ndarray | list[int] | int) -> str:
        from onnx import numpy_helper

        if isinstance(values, torch.Tensor):
            values = values.detach().numpy()
        name = f"constant{len(self._constants)}"
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def _affine(self, values: str, module: Any) -> str:
        product = self("MatMul", values, self._constant(module.weight))
        return str(self("Add", product, self._constant(module.bias)))

    def _embedded(self, words: str, module: Any) -> str:
        rows = self("Gather", self._constant(module.weight), words)
        return str(self("Add", rows, self._constant(module.bias)))

    def _gru(self, cell: GatedRecurrentUnit) -> tuple[str, str, str]:
        """W, R, B of ONNX's GRU, whose h' = (1 - z) h~ + z h turns the sign of z."""

        def in_order(weight: torch.Tensor) -> torch.Tensor:
            candidate, update, reset = weight.T.chunk(3)
            return torch.cat([-update, reset, candidate])

        read = [in_order(cell.input)] + ([] if cell.context is None else [in_order(cell.context)])
        hidden = cell.hidden
        bias = torch.zeros(6 * hidden)
        bias[2 * hidden : 3 * hidden] = cell.candidate_bias
        every = torch.cat(read, 1), in_order(cell.recurrent), bias
        return tuple(self._constant(part[None]) for part in every)  # type: ignore[return-value]

    def _summary(self, hidden: int) -> str:
        words = self._embedded("source", self._model.source_embedding)
        weights = self._gru(self._model.encoder)
        _, last = self("GRU", words, *weights, "lengths", outputs=2, hidden_size=hidden)
        return str(self("Squeeze", last, self._constant([0])))

    def _decoder(self, summary: str, initial: str, hidden: int) -> tuple[str, str]:
        """(rows of states before each symbol, rows of embeddings before it)."""
        previous = self._embedded("previous", self._model.target_embedding)
        first = self._constant([0])
        steps = self("Slice", self("Shape", "previous"), first, self._constant([1]))
        copies = self("Concat", steps, self._constant([1, 1]), axis=0)
        contexts = self("Tile", self("Unsqueeze", summary, first), copies)
        inputs = self("Concat", previous, contexts, axis=2)
        begin = self("Unsqueeze", initial, first)
        weights = self._gru(self._model.decoder)
        states, _ = self("GRU", inputs, *weights, "", begin, outputs=2, hidden_size=hidden)
        states = self("Concat", begin, self("Squeeze", states, self._constant([1])), axis=0)
        zero = self("Slice", previous, first, self._constant([1]), first)
        every = self("Concat", self("Sub", zero, zero), previous, axis=0)
        flat = [self("Reshape", rows, self._constant([-1, n])) for rows, n in (
            (states, hidden), (every, self._model.config.embedding),
        )]  # fmt: skip
        return tuple(self("Gather", rows, "symbols") for rows in flat)  # type: ignore[return-value]

    def _readout(self, summary: str, states: str, previous: str) -> None:
        readout, output = self._model.readout, self._model.output
        halves = torch.arange(2 * self._model.config.maxout).view(-1, 2).T.flatten()

        def product(rows: str, weight: torch.Tensor) -> str:
            return str(self("MatMul", rows, self._constant(weight)))

        bias = self._constant(readout.bias[halves])
        context = self("Add", product(summary, readout.context[:, halves]), bias)
        pieces = self("Gather", context, "phrases")
        pieces = self("Add", pieces, product(states, readout.state[:, halves]))
        pieces = self("Add", pieces, product(previous, readout.previous[:, halves]))
        units = self("Max", *self("Split", pieces, outputs=2, axis=1, num_outputs=2))
        features = units if output.left is None else product(units, output.left)
        logits = self("Add", product(features, output.right), self._constant(output.bias))
        words = self("Unsqueeze", "words", self._constant([1]))
        chosen = self("GatherElements", self("LogSoftmax", logits, axis=1), words, axis=1)
        self("Squeeze", chosen, self._constant([1]))
        self._nodes[-1].output[0] = "log_probs"


def feeds(pairs: PhrasePairs, batch: int) -> Iterator[tuple[np.ndarray, Feed]]:
    """(rows of `pairs`, what the graph reads of them), pairs of like length together."""
    order = np.lexsort((pairs.source.lengths, pairs.target.lengths))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        made = pair_batch(pairs, rows)
        target = made.target
        yield (
            rows,
            {
                "source": made.source.words.numpy(),
                "lengths": (made.source.last + 1).int().numpy(),
                "previous": target.words[:-1].numpy(),
                "symbols": target.symbols.numpy(),
                "phrases": target.phrases.numpy(),
                "words": target.symbol_words.numpy(),
            },
        )


def scores(run: Run, pairs: PhrasePairs, batch: int) -> np.ndarray:
    """(pairs,) ln p by a graph."""
    found = np.zeros(len(pairs), np.float32)
    for rows, feed in feeds(pairs, batch):
        part = np.zeros(len(rows), np.float32)
        np.add.at(part, feed["phrases"], run(feed))
        found[rows] = part
    return found


def onnx_runtime(path: Path) -> dict[str, Run]:
    """In float32, and in int8 by its dynamic quantisation (of products; its GRU stays float32)."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_suffix(".int8.onnx")
    quantize_dynamic(
        path, rounded, weight_type=QuantType.QInt8, per_channel=True,
        op_types_to_quantize=["MatMul"],
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def run(model: Path) -> Run:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        return lambda feed: session.run(None, feed)[0]

    return {"ONNX Runtime float32": run(path), "ONNX Runtime int8": run(rounded)}


def openvino(path: Path) -> dict[str, Run]:
    """In float32 and, where its plugin for the processor has it, bfloat16."""
    import openvino

    core = openvino.Core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    model = core.read_model(str(path))

    def run(hint: str) -> Run:
        how = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        request = core.compile_model(model, "CPU", how).create_infer_request()
        return lambda feed: request.infer(feed)[0]

    hints = {"float32": "f32"} | ({"bfloat16": "bf16"} if "BF16" in can else {})
    return {f"OpenVINO {name}": run(hint) for name, hint in hints.items()}


def peers(model: EncoderDecoder, folder: Path) -> dict[str, Run]:
    """What is installed of both."""
    path = folder / "model.onnx"
    if missing := [name for name in ("onnx",) if not find_spec(name)]:
        print(f"no graph is made: pip install {' '.join(missing)}")
        return {}
    Graph(model).write(path)
    made: dict[str, Run] = {}
    for package, runs in (("onnxruntime", onnx_runtime), ("openvino", openvino)):
        if find_spec(package):
            made |= runs(path)
        else:
            print(f"left out: pip install {package}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--entries", type=int, default=4096)
    parser.add_argument("--skip", type=int, default=0, help="entries at the table's start")
    parser.add_argument("--preset", default="paper", choices=PRESET_NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128, help="pairs of a peer's batch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    words = read_pairs(arguments.table, arguments.entries, arguments.skip)
    drawn = random_model(arguments.preset, words)
    config = replace(drawn.model.config, variant="groundhog")
    model = build(config, seed=1, deviation=0.03).eval().requires_grad_(False)
    vocabularies = drawn.source_vocabulary, drawn.target_vocabulary
    pairs = pairs_of(PhraseScorer(model, *vocabularies), words)
    tasks: dict[str, Callable[[], np.ndarray]] = {}
    for name in PRECISIONS:
        ours = PhraseScorer(model, *vocabularies, arithmetic=Arithmetic("cpu", name))
        tasks[f"ours {name}"] = lambda s=ours: s.score_ids(pairs)
    for half in (False, True):
        name = f"careful PyTorch {'bfloat16' if half else 'float32'}"
        tasks[name] = lambda h=half: careful_scores(model, pairs, CAREFUL_BATCH, half=h)
    with tempfile.TemporaryDirectory() as folder:
        for name, run in peers(model, Path(folder)).items():
            tasks[name] = lambda r=run: scores(r, pairs, arguments.batch)
        has = " ".join(instructions())
        print(f"{len(pairs):,} pairs, one thread, preset {arguments.preset}; {has}")
        measure(tasks, len(pairs), arguments.rounds)


def measure(tasks: dict[str, Callable[[], np.ndarray]], entries: int, rounds: int) -> None:
    truth = tasks["ours float32"]()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    errors = {name: np.abs(task() - truth).max() for name, task in tasks.items()}  # and warms it up
    for _ in range(rounds):
        for name, task in tasks.items():
            began = time.process_time()
            task()
            seconds[name].append(time.process_time() - began)
    for name, values in seconds.items():
        precision = "float32" if name.endswith("float32") else "bfloat16"
        ratios = [v / b for v, b in zip(values, seconds[f"ours {precision}"], strict=True)]
        print(
            f"{name:<26} {entries / statistics.median(values):>9,.0f} pairs/s; ours in {precision} "
            f"{statistics.median(ratios):5.2f} × (from {min(ratios):.2f} to {max(ratios):.2f}); "
            f"largest difference {errors[name]:.1e} nats"
        )


if __name__ == "__main__":
    main()
