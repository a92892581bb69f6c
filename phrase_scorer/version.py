"""The version of the installed package; a module of its own, so that nothing imports the root."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("phrase-scorer")
