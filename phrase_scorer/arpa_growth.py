"""More n-grams for a back-off model, from text, without changing what it says.

An n-gram that is not stored has the probability that backing off gives it; stored with just that
probability, and as a history with back-off weight 1, it changes nothing. But a network that then
gives its own probabilities to the stored n-grams (`arpa_export`) is heard at more places: say at
all n-grams of the n-best lists of a first decoding.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from phrase_scorer.arpa import END_WORD, START_WORD, UNKNOWN_WORD, Arpa, Order
from phrase_scorer.arpa_export import Index, links_of

OUTSIDE = -1  # a word that the model has not, or the gap between two sentences


def grown(arpa: Arpa, sentences: Iterable[Sequence[bytes]], path: str, min_count: int = 1) -> Arpa:
    """The same distributions, the n-grams of some text stored, too: after the old ones.

    Args:
        arpa: The model.
        sentences: Tokenised; n-grams with words that the model has not are passed over.
        path: Of the model, for messages.
        min_count: How often the text must have an n-gram.

    Raises:
        DataError: The model is broken: an n-gram without its history or its shorter form.
    """
    text = _text(arpa, sentences)
    orders = [arpa.orders[0]]
    places = text.astype(np.int64)  # of the n-gram that begins at each word, or OUTSIDE
    for order, link in zip(arpa.orders[1:], links_of(arpa, path), strict=True):
        histories, words = places[:-1], text[order.words.shape[1] - 1 :]
        inside = (histories >= 0) & (words >= 0)
        found = np.where(inside, histories * len(arpa.words) + words, OUTSIDE)
        keys, first, counts = np.unique(found, return_index=True, return_counts=True)
        stored = Index.of(link.history, order.words[:, -1], len(arpa.words))
        new = (keys >= 0) & (counts >= min_count) & (stored.find_keys(keys) < 0)
        orders.append(_extended(order, orders[-1], histories, words, places[1:], first[new]))
        history = np.concatenate([link.history, histories[first[new]]])
        places = Index.of(history, orders[-1].words[:, -1], len(arpa.words)).find_keys(found)
    return Arpa(arpa.words, orders)


def _text(arpa: Arpa, sentences: Iterable[Sequence[bytes]]) -> npt.NDArray[np.int32]:
    """(words,) places in the model's vocabulary, sentences with their boundaries, gaps between."""
    places = {word: place for place, word in enumerate(arpa.words)}
    start, end = places.pop(START_WORD), places.pop(END_WORD)
    del places[UNKNOWN_WORD]
    ids = array("i")
    for sentence in sentences:
        ids.extend([start, *[places.get(word, OUTSIDE) for word in sentence], end, OUTSIDE])
    return np.array(ids, np.int32)


def _extended(
    order: Order,
    below: Order,
    histories: npt.NDArray[np.int64],
    words: npt.NDArray[np.int32],
    shorter: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
) -> Order:
    """An order with the n-grams that begin at some places of the text, as backing off has them."""
    history, last = histories[at], words[at]
    rows = np.concatenate([below.words[history], last[:, None]], axis=1)
    log10 = below.back_off[history] + below.log10[shorter[at]]
    return Order(
        np.concatenate([order.words, rows]),
        np.concatenate([order.log10, np.minimum(log10, 0.0)]),
        np.concatenate([order.back_off, np.zeros(len(at))]),
    )
