"""Which moses.ini goes with a table, where the edited one is written, which of its tables is meant.

The one answer to --moses-ini, --moses-ini-out and --table-name, for every command that takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moses_integration.formats.moses_ini import MosesIni, PhraseTableFeature
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.output import Place, check_option, write_file


@dataclass(frozen=True)
class IniTarget:
    """A moses.ini to read, and perhaps one to write; without `moses_ini` neither may be wanted."""

    moses_ini: str | None = None
    moses_ini_out: str | None = None
    table_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("moses_ini_out", "table_name"):
            if getattr(self, name) and not self.moses_ini:
                raise UsageError(f"--{name.replace('_', '-')} needs --moses-ini")

    def check_out(self, others: Mapping[str, Place | None]) -> None:
        """Checks by `check_option`, before hours of work, the moses.ini that is written after them.

        It must not be `moses_ini`, nor one of `others`: the command's other files, by their names.
        """
        if self.moses_ini_out:
            named = {"--moses-ini": self.moses_ini, **others}
            check_option("--moses-ini-out", self.moses_ini_out, named)

    def read(self) -> MosesIni | None:
        """The moses.ini; None where none was named."""
        return MosesIni.read(self.moses_ini) if self.moses_ini else None

    def feature(self, ini: MosesIni) -> PhraseTableFeature:
        """The phrase table that is meant, chosen by `MosesIni.phrase_table`."""
        return ini.phrase_table(self.table_name)

    def write(self, ini: MosesIni) -> bool:
        """Writes the edited moses.ini, if it is wanted; whether it was."""
        if self.moses_ini_out:
            write_file(self.moses_ini_out, ini.to_bytes())
        return bool(self.moses_ini_out)
