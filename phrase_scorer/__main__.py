"""`python -m phrase_scorer`: the program `phrase-scorer`.

That is the one that the installed distribution names so. Where it is not installed with Moses'
part, these are the commands of the core, over tab-separated pairs only.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

from phrase_scorer.cli import (
    CORE_COMMANDS,
    CORE_EXPERIMENTS,
    CORE_SECTIONS,
    build_group,
    experiment_group,
)
from phrase_scorer.cli.groups import PROGRAM
from phrase_scorer.runtime.console import run
from phrase_scorer.text.pair_files import read_pairs


def _main() -> int:
    """Runs the program; its exit code."""
    for program in entry_points(group="console_scripts", name=PROGRAM):
        try:
            whole = program.load()
        except ModuleNotFoundError:
            continue
        code: int = whole()
        return code
    commands = {**CORE_COMMANDS, "experiment": experiment_group(CORE_EXPERIMENTS)}
    return run(build_group(read_pairs, commands, CORE_SECTIONS))


if __name__ == "__main__":
    sys.exit(_main())
