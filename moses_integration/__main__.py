"""`python -m moses_integration`: the whole command line, as `phrase-scorer`."""

import sys

from moses_integration.cli import main

sys.exit(main())
