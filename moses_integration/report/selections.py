"""Some of very many items, kept while they pass by: those with the lowest keys.

With random keys that is a sample, each item as likely as any other; with scores as keys, the best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item")
Keys = npt.NDArray[np.float64]


class Lowest(Generic[Item]):
    """The `size` items with the lowest keys; of equal keys, those that came first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._keys: Keys = np.zeros(0)
        self._items: list[Item] = []
        self._bound = np.inf  # a key that is not below it is too high

    def add(self, keys: Keys, item: Callable[[int], Item]) -> None:
        """Adds items with these keys; `item` makes the one at a place, if it is kept at first."""
        chosen = np.flatnonzero(keys < self._bound)
        self._keys = np.concatenate([self._keys, keys[chosen]])
        self._items += map(item, chosen.tolist())
        if len(self._items) > 2 * self.size + 1:  # seldom: sorting each time would be slow
            self._cut()

    def items(self) -> list[Item]:
        """Those kept, the lowest first."""
        self._cut()
        return list(self._items)

    def _cut(self) -> None:
        order = np.argsort(self._keys, kind="stable")[: self.size]
        self._keys = self._keys[order]
        self._items = [self._items[place] for place in order]
        if len(order) == self.size:
            self._bound = self._keys[-1] if self.size else -np.inf
