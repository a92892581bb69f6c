"""What several test files share: where data stands, phrase pairs from id lists, tiny models."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"  # the project's own small corpus and its models
GOLDEN = ROOT / "tests" / "golden"  # what Moses wrote
