"""Words that a model does not know: where they are many, that is told before hours of scoring.

Another language, raw text or another casing is scored without complaint, and all of it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phrase_scorer.errors import LONGEST_QUOTE, DataError, printable
from phrase_scorer.runtime.console import say
from phrase_scorer.text.phrase_pairs import PairBlock
from phrase_scorer.text.vocabulary import Counts, Vocabulary

MANY_UNKNOWN = 0.2  # share of unknown words that is more likely a mistake than a rare domain
LIKELY_WHY = "other casing, another language, or other tokenisation or escaping than in training?"


@dataclass
class UnknownWordCheck:
    """Warns, once for a side of pairs and a model; stops where the share is above a limit.

    Models with the same shortlist are named together.
    """

    path: str  # of the pairs, as the user named it
    models: Mapping[str, Mapping[str, Vocabulary]]  # by name; by side, "source" and "target"
    limit: float | None = None  # of --max-unknown
    _told: list[tuple[str, str]] = field(default_factory=list)  # (side, models)

    def begin(self, sample: PairBlock) -> None:
        """Looks at the first pairs, before they are scored: DataError above the limit."""
        phrases = {"source": sample.sources, "target": sample.targets}
        for side, models, vocabulary in self._shortlists():
            counts = vocabulary.counts_of(phrases[side])
            what = self._what(f"first {counts.looked_up:,} {side}", models, counts)
            if self.limit is not None and counts.unknown_share > self.limit:
                message = f"{what}, more than --max-unknown {self.limit:g}: {LIKELY_WHY}"
                raise DataError(message, path=self.path)
            self._warn(side, models, counts, what)

    def finish(self) -> None:
        """Looks at what the vocabularies have counted in scoring: warns where it did not yet."""
        for side, models, vocabulary in self._shortlists():
            what = self._what(side, models, vocabulary.counts)
            self._warn(side, models, vocabulary.counts, what)

    def _shortlists(self) -> Iterator[tuple[str, str, Vocabulary]]:
        """(side, the models, their shortlist), each different shortlist of a side once."""
        for side in ("source", "target"):
            known = {name: m[side] for name, m in self.models.items() if side in m}
            groups: dict[tuple[bytes, ...], list[str]] = {}
            for name, vocabulary in known.items():
                groups.setdefault(vocabulary.words, []).append(name)
            for names in groups.values():
                which = "" if len(groups) == 1 else f" {', '.join(names)}"
                yield side, f"the model{'s' * (len(names) > 1)}{which}", known[names[0]]

    def _what(self, words: str, models: str, counts: Counts) -> str:
        examples = b" ".join(counts.most_frequent()).decode("utf-8", "backslashreplace")
        shown = printable(examples)[:LONGEST_QUOTE]
        share = f"{counts.unknown_share:.0%} of the {words} words"
        return f"{share} are unknown to {models} ({shown} …)"

    def _warn(self, side: str, models: str, counts: Counts, what: str) -> None:
        most = MANY_UNKNOWN if self.limit is None else min(self.limit, MANY_UNKNOWN)
        if counts.unknown_share > most and (side, models) not in self._told:
            self._told.append((side, models))
            say(f"warning: {what}: {LIKELY_WHY}")
