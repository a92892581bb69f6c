"""The slow scorer: the equations written out, one phrase pair at a time, in float64.

In: plain arrays under the model's parameter names, and one pair of id lists. Out: natural-log
probabilities. It knows no words, no batches, no tensors and no code of `models/`, so that it can
say what the fast code should have answered.
Source: Cho et al. 2014 (arXiv 1406.1078), equations (5)-(8) and appendix; GroundHog, encdec.py.

Sizes on the lines: E embedding, H hidden, K readout (twice the maxout units), R output rank,
S and T source and target vocabulary. Weights are (in, out) and stand to the right of a row vector.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_Variant = Literal["paper", "groundhog"]
Array = NDArray[np.float64]
Parameters = Mapping[str, NDArray[Any]]


def log_prob(
    parameters: Parameters, source_ids: Sequence[int], target_ids: Sequence[int], variant: _Variant
) -> float:
    """Ln p(target | source), end symbol included: the sum of `target_log_probs`, in nats."""
    return float(target_log_probs(parameters, source_ids, target_ids, variant).sum())


def target_log_probs(
    parameters: Parameters, source_ids: Sequence[int], target_ids: Sequence[int], variant: _Variant
) -> Array:
    """Ln p(y_t | y_1 .. y_{t-1}, source) of each target symbol, in nats: (len(target_ids),).

    Both id lists carry their end symbol as last id. Arrays that are not float64 are converted at
    every call. Source: the paper's appendix (decoder), or GroundHog's encdec.py.
    Raises ValueError for an unknown variant, an empty list, an id outside the vocabulary.
    """
    c = encode(parameters, source_ids, variant)  # (H,)
    p = _float64(parameters)
    _check_ids("target", target_ids, len(p["target_embedding.weight"]))
    states = _paper_states if variant == "paper" else _groundhog_states
    log_probs = np.zeros(len(target_ids))
    for t, (state, previous) in enumerate(states(p, c, target_ids)):
        log_probs[t] = log_softmax(_logits(p, state, previous, c))[target_ids[t]]
    return log_probs


def encode(parameters: Parameters, source_ids: Sequence[int], variant: _Variant) -> Array:
    """The summary c of a source phrase whose last id is the end symbol: (H,).

    `paper`: equations (5)-(8), then c = tanh(V h_N) of the appendix. `groundhog`: the same unit
    with the update gate the other way round, and c = h_N.
    Raises ValueError for an unknown variant, an empty list, an id outside the vocabulary.
    """
    if variant not in ("paper", "groundhog"):
        raise ValueError(f"unknown variant {variant!r}: neither 'paper' nor 'groundhog'")
    p = _float64(parameters)
    _check_ids("source", source_ids, len(p["source_embedding.weight"]))
    w, w_z, w_r = np.split(p["encoder.input"], 3, axis=1)  # (E, H) each
    u, u_z, u_r = np.split(p["encoder.recurrent"], 3, axis=1)  # (H, H) each
    h = np.zeros(u.shape[0])  # h_0 (H,)
    for source_id in source_ids:
        e = p["source_embedding.weight"][source_id] + p["source_embedding.bias"]  # (E,)
        r = sigmoid(e @ w_r + h @ u_r)  # (5) (H,)
        z = sigmoid(e @ w_z + h @ u_z)  # (6) (H,)
        candidate = np.tanh(e @ w + p["encoder.candidate_bias"] + (r * h) @ u)  # (8) (H,)
        if variant == "paper":
            h = z * h + (1 - z) * candidate  # (7): z keeps the old state
        else:
            h = z * candidate + (1 - z) * h  # GroundHog: the gate takes the new state
    if variant == "paper":
        return np.tanh(h @ p["summary.weight"])  # c = tanh(V h_N) (H,)
    return h


def _paper_states(
    p: Mapping[str, Array], c: Array, target_ids: Sequence[int]
) -> Iterator[tuple[Array, Array]]:
    """(h'_t, e(y_{t-1})) for t = 1 .. len(target_ids): (H,) and (E,). Appendix, decoder."""
    w, w_z, w_r = np.split(p["decoder.input"], 3, axis=1)  # W', W'_z, W'_r (E, H) each
    u, u_z, u_r = np.split(p["decoder.recurrent"], 3, axis=1)  # U', U'_z, U'_r (H, H) each
    context, context_z, context_r = np.split(c @ p["decoder.context"], 3)  # C c, C_z c, C_r c (H,)
    h = np.tanh(c @ p["initial_state.weight"] + p["initial_state.bias"])  # h'_0 = tanh(V' c) (H,)
    e = np.zeros(w.shape[0])  # e(y_0) is the zero vector: no embedding bias either (E,)
    for target_id in target_ids:
        z = sigmoid(e @ w_z + h @ u_z + context_z)  # (H,)
        r = sigmoid(e @ w_r + h @ u_r + context_r)  # (H,)
        # The reset gate acts after the product and over the context; the input bias is outside it.
        candidate = np.tanh(e @ w + p["decoder.candidate_bias"] + r * (h @ u + context))  # (H,)
        h = z * h + (1 - z) * candidate  # (H,)
        yield h, e  # y_t is read after the step on y_{t-1}
        e = p["target_embedding.weight"][target_id] + p["target_embedding.bias"]  # (E,)


def _groundhog_states(
    p: Mapping[str, Array], c: Array, target_ids: Sequence[int]
) -> Iterator[tuple[Array, Array]]:
    """(s_{t-1}, e'(y_{t-1})) for t = 1 .. len(target_ids): (H,) and (E,). encdec.py, decoder."""
    w, w_u, w_r = np.split(p["decoder.input"], 3, axis=1)  # (E, H) each
    u, u_u, u_r = np.split(p["decoder.recurrent"], 3, axis=1)  # (H, H) each
    context, context_u, context_r = np.split(c @ p["decoder.context"], 3)  # (H,) each
    s = np.tanh(c @ p["initial_state.weight"] + p["initial_state.bias"])  # s_0 (H,)
    e = np.zeros(w.shape[0])  # a true zero: nothing reaches O_y before the first symbol (E,)
    for target_id in target_ids:
        yield s, e  # y_t is read from s_{t-1}; y_1 straight from s_0
        e = p["target_embedding.weight"][target_id] + p["target_embedding.bias"]  # (E,)
        update = sigmoid(e @ w_u + s @ u_u + context_u)  # (H,)
        reset = sigmoid(e @ w_r + s @ u_r + context_r)  # (H,)
        # The reset gate acts before the product and on the old state only, never on the context.
        candidate = np.tanh(e @ w + p["decoder.candidate_bias"] + context + (reset * s) @ u)  # (H,)
        s = update * candidate + (1 - update) * s  # (H,)


def _logits(p: Mapping[str, Array], state: Array, previous: Array, c: Array) -> Array:
    """Scores of all target symbols before the softmax: (T,). Appendix: s'_t, maxout, G = G_l G_r.

    O_y takes the embedding (E,), as in GroundHog, in both variants.
    """
    a = state @ p["readout.state"] + p["readout.bias"]  # O_h h' (K,)
    a = a + previous @ p["readout.previous"] + c @ p["readout.context"]  # + O_y e + O_c c (K,)
    s = np.maximum(a[0::2], a[1::2])  # s_i = max(s'_{2i-1}, s'_{2i}), counted from 1 (K/2,)
    if "output.left" in p:
        s = s @ p["output.left"]  # G_l; without it the output has full rank (R,)
    return s @ p["output.right"] + p["output.bias"]  # G_r (T,)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), elementwise, any shape; no overflow at either end."""
    return np.exp(-np.logaddexp(0.0, -x))


def log_softmax(x: Array) -> Array:
    """X - ln sum exp(x) of a vector (T,), in nats; the maximum is taken out before exp."""
    shifted: Array = x - x.max()  # (T,)
    log_total = float(np.log(np.exp(shifted).sum()))
    return shifted - log_total


def _float64(parameters: Parameters) -> dict[str, Array]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}


def _check_ids(side: str, ids: Sequence[int], size: int) -> None:
    if len(ids) == 0:
        raise ValueError(f"no {side} ids: even an empty phrase has its end symbol")
    # A negative id would silently read a row from the end of the table.
    outside = [i for i in ids if not 0 <= i < size]
    if outside:
        raise ValueError(f"{side} ids {outside} are outside the vocabulary of {size}")
