"""Everything that knows a Moses file: phrase tables, feature columns, moses.ini, the command line.

It imports `phrase_scorer`, never the reverse.

    >>> from phrase_scorer import train
    >>> from moses_integration import read_table_or_pairs, rescore
    >>> train("phrase-table.gz", "rnn/", max_minutes=10, read=read_table_or_pairs)  # doctest: +SKIP
    >>> rescore("phrase-table.gz", "phrase-table.rnn.gz", models=["rnn/"],
    ...         moses_ini="moses.ini", moses_ini_out="moses.rnn.ini")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moses_integration.formats.table_pairs import read_table_or_pairs
    from moses_integration.report.page import write_report
    from moses_integration.report.request import ReportRequest
    from moses_integration.rescoring.counts import RescoreCounts
    from moses_integration.rescoring.job import rescore

__all__ = ["ReportRequest", "RescoreCounts", "read_table_or_pairs", "rescore", "write_report"]

_LAZY = {
    "ReportRequest": "moses_integration.report.request",
    "RescoreCounts": "moses_integration.rescoring.counts",
    "read_table_or_pairs": "moses_integration.formats.table_pairs",
    "rescore": "moses_integration.rescoring.job",
    "write_report": "moses_integration.report.page",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, as `phrase_scorer` does."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
