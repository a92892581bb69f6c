"""A continuous-space language model as a back-off model.

The n-grams of an ARPA file get the network's probabilities (or a mixture with the file's own), and
back-off weights for which every context sums to one.

(Arısoy et al. 2013, Converting neural network language models into back-off language models.) One
network gives the probabilities of all orders, because it was trained on cut histories, too. Words
of the file that the network does not know share its `<unk>` in proportion to their unigram
probabilities; words of the network that are missing from the file are left out, and the others
share their probability. So both are distributions over the words of the file.

`grown` first adds n-grams of texts, so that the network is heard in more places. A missing n-gram
has the probability that backing off gives it; stored with just that probability, and with back-off
weight 1 as a history, it changes nothing.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.language_model.arpa import END_WORD, NEVER, START_WORD, UNKNOWN_WORD, Arpa, Order
from phrase_scorer.language_model.model import LanguageModel, NGrams, WordIds
from phrase_scorer.text.vocabulary import END, UNKNOWN

MOST_UNKNOWN = 0.5  # share of the file's unigram probability; above, it is another language
LEAST_MASS = 1e-12  # probability left for the words that back off
OUTSIDE = -1  # a word missing from the model, or the gap between two sentences

Floats = npt.NDArray[np.float64]
NGramRows = npt.NDArray[np.int64]  # of n-grams within their order


class SharedVocabulary:
    """A network's distributions as distributions over an ARPA file's words.

    Raises:
        DataError: The file's order is higher than the network's, or it hardly knows its words.
    """

    def __init__(self, model: LanguageModel, arpa: Arpa) -> None:
        if len(arpa.orders) > model.order:
            message = f"n-grams up to order {len(arpa.orders)}, but the model reads {model.order}"
            raise DataError(message, path=arpa.path)
        ids = np.array([model.vocabulary.id(word) for word in arpa.words])
        self.start = arpa.words.index(START_WORD)
        self.unknown = arpa.words.index(UNKNOWN_WORD)
        ids[arpa.words.index(END_WORD)] = END
        unigrams = 10.0 ** arpa.orders[0].log10
        unigrams[self.start] = 0.0
        unknown = ids == UNKNOWN
        unknown[self.start] = False
        unigrams[unknown] = np.maximum(unigrams[unknown], 1e-99)
        share = unigrams[unknown].sum()
        if share > MOST_UNKNOWN * unigrams.sum():
            what = f"words that make up {share:.0%} of its text are unknown to the model"
            raise DataError(f"its vocabulary is not the model's: {what}", path=arpa.path)
        self.ids = ids  # (words,) the network's id of each word of the file
        self.log_share = np.zeros(len(ids))  # (words,) ln of a word's part of its id's probability
        self.log_share[unknown] = np.log(unigrams[unknown] / share)
        missing = sorted(set(range(len(model.vocabulary))) - set(ids.tolist()))
        self.model = LanguageModel(model.model, model.vocabulary, missing)

    def contexts(self, histories: npt.NDArray[np.int32]) -> WordIds:
        """(rows, order - 1) ids for histories given as (rows, words) places among the file's words.

        A history that begins with the start symbol is filled up with more of these on the left, any
        other with the symbol for no word.
        """
        rows, words = histories.shape
        network = self.model.model
        filler = self.model.order - 1 - words  # how many symbols are missing on the left
        found = np.full((rows, filler + words), network.no_word, np.int64)
        is_start = histories == self.start
        found[:, filler:] = np.where(is_start, network.start_symbol, self.ids[histories])
        found[is_start[:, :1].any(1), :filler] = network.start_symbol
        return found

    def log_probs(
        self, histories: npt.NDArray[np.int32], rows: NGramRows, words: npt.NDArray[np.int32]
    ) -> Floats:
        """(len(rows),) natural-log probability of each word after the history of its row."""
        found = self.model.chosen_log_probs(self.contexts(histories), rows, self.ids[words])
        found += self.log_share[words]
        found[words == self.start] = NEVER * math.log(10)
        return found

    def symbol_log_probs(self, ngrams: NGrams, words: WordIds) -> Floats:
        """(symbols,) natural-log probability of the file's words after whole histories."""
        return self.model.log_probs(ngrams) + self.log_share[words]


def _keys(history: NGramRows, last: npt.NDArray[np.int32], arpa: Arpa) -> NGramRows:
    """(n-grams,) a number for each n-gram of one order, from its history's row and its last word;
    `OUTSIDE` where one of the two is.
    """
    inside = (history >= 0) & (last >= 0)
    return np.where(inside, history * len(arpa.words) + last, OUTSIDE)


class _Index:
    """Finds the rows of n-grams of one order by their `_keys`."""

    def __init__(self, keys: NGramRows) -> None:
        self.rows = np.argsort(keys, kind="stable")
        self.keys = keys[self.rows]

    def find(self, keys: NGramRows) -> NGramRows:
        """(n-grams,) the row of each; `OUTSIDE` for an unknown one."""
        if not len(self.keys):
            return np.full(len(keys), OUTSIDE)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[at] == keys) & (keys >= 0), self.rows[at], OUTSIDE)


@dataclass
class Links:
    """Where the n-grams of an order have their parts in the order below."""

    history: NGramRows  # (n-grams,) row of all but the last word
    shorter: NGramRows  # (n-grams,) row of all but the first word


def links_of(arpa: Arpa) -> list[Links]:
    """The links of each order above the first; DataError for an n-gram that lacks one."""
    indexes: list[_Index] = []

    def find(words: npt.NDArray[np.int32]) -> NGramRows:
        place = words[:, 0].astype(np.int64)
        for column, index in enumerate(indexes[: words.shape[1] - 1], 1):
            place = index.find(_keys(place, words[:, column], arpa))
        return place

    result = []
    for order in arpa.orders[1:]:
        history, shorter = find(order.words[:, :-1]), find(order.words[:, 1:])
        for what, places, part in (
            ("history", history, slice(None, -1)),
            ("shorter form", shorter, slice(1, None)),
        ):
            missing = np.flatnonzero(places < 0)
            if len(missing):
                words = order.words[missing[0]]
                text, needed = (b" ".join(arpa.words[w] for w in ws) for ws in (words, words[part]))
                message = f'the n-gram "{text.decode("utf-8", "replace")}" has no {what}'
                raise DataError(message, path=arpa.path, text=needed)
        result.append(Links(history, shorter))
        indexes.append(_Index(_keys(history, order.words[:, -1], arpa)))
    return result


def export(
    model: LanguageModel, arpa: Arpa, *,
    share: float = 1.0, prune: float = 0.0, progress: Callable[[int], object] = lambda _: None,
) -> Arpa:  # fmt: skip
    """The back-off model with the network's probabilities for the n-grams of `arpa`.

    `share` is the network's weight in a linear mixture with the file's own probabilities. `prune`
    leaves out n-grams whose loss raises perplexity by less than this (`pruned`); 0 keeps all.
    `progress` is told how many more n-grams are done.

    Raises:
        DataError: The two do not fit (`SharedVocabulary`), or the file is broken (`links_of`).
    """
    shared = SharedVocabulary(model, arpa)
    links = links_of(arpa)
    orders = []
    for order in arpa.orders:
        histories, rows = np.unique(order.words[:, :-1], axis=0, return_inverse=True)
        if order.words.shape[1] == 1:
            histories, rows = order.words[:1, :-1], np.zeros(len(order), np.int64)
        found = shared.log_probs(histories, rows.reshape(-1), order.words[:, -1])
        log10 = _mixed(found / math.log(10), order, share, shared.start)
        orders.append(Order(order.words, log10, np.zeros(len(order))))
        progress(len(order))
    exported = _with_back_off(replace(arpa, orders=orders), links)
    return pruned(exported, links, prune) if prune else exported


def _mixed(network: Floats, given: Order, share: float, start: int) -> Floats:
    """log10 of the mixture of the network's probabilities with an order's own.

    The start symbol stays out of it; the file's other unigrams are made to sum to one.
    """
    if share == 1.0:
        return network
    is_word = given.words[:, -1] != start
    others = np.where(is_word, 10.0**given.log10, 0.0)
    if given.words.shape[1] == 1:
        others /= others.sum()
    mixed = np.log10(share * 10.0**network + (1.0 - share) * others)
    return np.where(is_word, mixed, network)


def _with_back_off(arpa: Arpa, links: list[Links]) -> Arpa:
    """The same n-grams with back-off weights for which every context sums to one."""
    orders = list(arpa.orders)
    for n, (lower, higher, link) in enumerate(zip(orders, orders[1:], links, strict=False)):
        weights = np.log10(_weights(*_left(lower, higher, link)))
        children = np.bincount(link.history, minlength=len(lower))
        orders[n] = replace(lower, back_off=np.where(children > 0, weights, 0.0))
    return replace(arpa, orders=orders)


def _left(lower: Order, higher: Order, link: Links) -> tuple[Floats, Floats]:
    """(contexts,) each: 1 - Σ p(w | h) and 1 - Σ p(w | h') over the words stored after h."""
    stored = np.bincount(link.history, 10.0**higher.log10, len(lower))
    below = np.bincount(link.history, 10.0 ** lower.log10[link.shorter], len(lower))
    return 1.0 - stored.astype(np.float64), 1.0 - below.astype(np.float64)


def _weights(left: Floats, below: Floats) -> Floats:
    """Back-off weights: what the stored words leave, by what they leave in the order below."""
    return np.maximum(left, LEAST_MASS) / np.maximum(below, LEAST_MASS)


def pruned(arpa: Arpa, links: list[Links], threshold: float) -> Arpa:
    """The model without the n-grams whose loss raises perplexity by less than `threshold`.

    Each is judged by itself, from the highest order down; what a kept one needs is kept (Stolcke
    1998, Entropy-based pruning of backoff language models). Back-off weights are computed anew.
    Where only unigrams are left, it is a UsageError.
    """
    orders = arpa.orders
    # ln p of each n-gram as a piece of text, by the chain rule.
    text = [np.log(10.0 ** orders[0].log10)]
    start = arpa.words.index(START_WORD)
    text[0][start] = text[0][arpa.words.index(END_WORD)]
    for order, link in zip(orders[1:], links, strict=True):
        text.append(text[-1][link.history] + order.log10 * math.log(10))
    needed = np.zeros(len(orders[-1]), bool)
    kept = [np.ones(len(orders[0]), bool)] * len(orders)
    for n in range(len(orders) - 1, 0, -1):
        order, lower, link = orders[n], orders[n - 1], links[n - 1]
        p, p_lower = 10.0**order.log10, 10.0 ** lower.log10[link.shorter]
        left, below = (mass[link.history] for mass in _left(lower, order, link))
        old, new = np.log(_weights(left, below)), np.log(_weights(left + p, below + p_lower))
        change = p * (np.log(p_lower) + new - np.log(p)) + left * (new - old)
        loss = -np.exp(text[n - 1][link.history]) * change
        kept[n] = needed | (np.expm1(loss) >= threshold)
        needed = np.zeros(len(lower), bool)
        needed[link.history[kept[n]]] = True
        needed[link.shorter[kept[n]]] = True
    chosen = [
        Order(o.words[k], o.log10[k], o.back_off[k]) for o, k in zip(orders, kept, strict=True)
    ]
    while not len(chosen[-1]):
        chosen.pop()
    if len(chosen) < 2:
        raise UsageError(f"--prune {threshold} leaves only unigrams, which KenLM does not read")
    smaller = replace(arpa, orders=chosen)
    return _with_back_off(smaller, links_of(smaller))


def grown(arpa: Arpa, sentences: Iterable[Sequence[bytes]], min_count: int = 1) -> Arpa:
    """The same distributions with the n-grams of tokenised text stored behind the old ones.

    N-grams with words outside the model are passed over, and those rarer than `min_count`.
    """
    text = _text(arpa, sentences)
    orders = [arpa.orders[0]]
    places = text.astype(np.int64)  # row of the n-gram that begins at each word, or OUTSIDE
    for order, link in zip(arpa.orders[1:], links_of(arpa), strict=True):
        histories, words = places[:-1], text[order.words.shape[1] - 1 :]
        found = _keys(histories, words, arpa)
        keys, first, counts = np.unique(found, return_index=True, return_counts=True)
        stored = _keys(link.history, order.words[:, -1], arpa)
        is_new = (keys >= 0) & (counts >= min_count) & (_Index(stored).find(keys) < 0)
        new, at = keys[is_new], first[is_new]
        orders.append(_extended(order, orders[-1], histories[at], words[at], places[1:][at]))
        places = _Index(np.concatenate([stored, new])).find(found)
    return replace(arpa, orders=orders)


def _text(arpa: Arpa, sentences: Iterable[Sequence[bytes]]) -> npt.NDArray[np.int32]:
    """(words,) places in the model's vocabulary; sentence boundaries and gaps are put in."""
    places = {word: place for place, word in enumerate(arpa.words)}
    start, end = places.pop(START_WORD), places.pop(END_WORD)
    del places[UNKNOWN_WORD]
    ids = array("i")
    for sentence in sentences:
        ids.extend([start, *[places.get(word, OUTSIDE) for word in sentence], end, OUTSIDE])
    return np.array(ids, np.int32)


def _extended(
    order: Order, below: Order, history: NGramRows, last: npt.NDArray[np.int32], shorter: NGramRows
) -> Order:
    """An order with more n-grams, given by their parts in the order below, as backed off."""
    rows = np.concatenate([below.words[history], last[:, None]], axis=1)
    log10 = below.back_off[history] + below.log10[shorter]
    return Order(
        np.concatenate([order.words, rows]),
        np.concatenate([order.log10, np.minimum(log10, 0.0)]),
        np.concatenate([order.back_off, np.zeros(len(rows))]),
    )
