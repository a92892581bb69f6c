"""Numbers over a whole table whose size does not grow with it: correlations, histograms, ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moses_integration.formats.table_entries import Numbers
from phrase_scorer.scoring.accuracy import mean_ranks

Places = npt.NDArray[np.int64]

LEAST = -100.0  # nats: where Moses floors the logarithm of a score (Util.h)
BIN = 0.5  # nats, of a histogram
# By how often a pair was seen; the last: the table does not say.
COUNT_CLASSES = ("once", "2–3 times", "4–9 times", "10 times and more", "not known")
_CLASS_STARTS = (2.0, 4.0, 10.0)


def count_class(counts: Numbers) -> Places:
    """(entries,) the place in `COUNT_CLASSES` of each pair's count, which may be nan."""
    places = np.searchsorted(_CLASS_STARTS, counts, "right")
    return np.where(np.isnan(counts), len(COUNT_CLASSES) - 1, places)


def logarithms(scores: Numbers) -> Numbers:
    """Natural logarithms, floored as Moses floors them."""
    return np.log(np.maximum(scores, np.exp(LEAST)))


@dataclass
class Moments:
    """Means and sums of products of two variables, of parts that are added one after the other.

    (Chan, Golub and LeVeque 1983: no large sums are subtracted.)
    """

    entries: int = 0
    means: Numbers = field(default_factory=lambda: np.zeros(2))
    products: Numbers = field(default_factory=lambda: np.zeros((2, 2)))  # of the deviations

    def add(self, x: Numbers, y: Numbers) -> None:
        """Adds as many of one as of the other."""
        if not len(x):
            return
        both = np.stack([x, y])
        means = both.mean(1)
        deviations = both - means[:, None]
        total = self.entries + len(x)
        apart = means - self.means
        weight = self.entries * len(x) / total
        self.products = self.products + deviations @ deviations.T + weight * np.outer(apart, apart)
        self.means = self.means + apart * len(x) / total
        self.entries = total

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where one of the two does not vary."""
        (xx, xy), (_, yy) = self.products.tolist()
        return xy / (xx * yy) ** 0.5 if xx > 0 and yy > 0 else None


def spearman(x: Numbers, y: Numbers) -> float | None:
    """The rank correlation, Pearson's of the ranks; None where one of the two does not vary."""
    moments = Moments()
    moments.add(mean_ranks(x), mean_ranks(y))
    return moments.correlation


def ranks_within(groups: Places, values: Numbers) -> Places:
    """(values,) the rank of each in its group: 1, and 1 more for each that is greater."""
    if not len(values):
        return np.zeros(0, np.int64)
    order = np.lexsort((-values, groups))
    group, value = groups[order], values[order]
    places = np.arange(len(order))
    new_group = np.append(True, group[1:] != group[:-1])
    new_value = new_group | np.append(True, value[1:] != value[:-1])
    starts = np.maximum.accumulate(np.where(new_group, places, 0))
    firsts = np.maximum.accumulate(np.where(new_value, places, 0))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = firsts - starts + 1
    return ranks


@dataclass
class Histogram:
    """How many values, each from `LEAST` to 0, fall into each bin of `BIN` nats, by class.

    Bin i holds the values above -(i + 1) BIN, up to -i BIN.
    """

    classes: int
    counts: Places = field(init=False)  # (classes, bins)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, bins_of(LEAST) + 1), np.int64)

    def add(self, values: Numbers, classes: Places) -> None:
        """Adds values, each to its class."""
        np.add.at(self.counts, (classes, bins_of(values)), 1)


def bins_of(values: Numbers | float) -> Places:
    """The bin of each value; above 0 (by rounding) it is the first."""
    places = np.floor(np.maximum(-np.asarray(values), 0) / BIN).astype(np.int64)
    last: Places = np.minimum(places, int(-LEAST / BIN))
    return last
