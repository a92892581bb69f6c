"""`python -m phrase_scorer`: the commands of the core."""

import sys

from phrase_scorer.cli import main

sys.exit(main())
