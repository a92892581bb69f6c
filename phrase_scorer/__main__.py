"""`python -m phrase_scorer`: the commands of the core, over tab-separated pairs only."""

import sys

from phrase_scorer.cli import CORE_SECTIONS, build_group
from phrase_scorer.cli.options import read_pairs
from phrase_scorer.runtime.console import run

sys.exit(run(build_group(read_pairs, CORE_SECTIONS)))
