"""For people who run Moses through its experiment management system, EMS (experiment.perl).

Three files that are no Python: `rescore-hook.sh` rescores the phrase table between two steps of
EMS, `train-model-wrapper.sh` makes every moses.ini fit it, `config.phrase-scorer` has the lines for
the config of an experiment. `write_ems_files` writes them where EMS is to find them, with absolute
paths in them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from importlib import resources
from pathlib import Path

from phrase_scorer.errors import UsageError, quoted
from phrase_scorer.runtime.output import real_path, write_file

SCRIPTS = ("rescore-hook.sh", "train-model-wrapper.sh")
CONFIG_LINES = "config.phrase-scorer"

_PROGRAM = b"program=phrase-scorer\n"  # in the scripts
_FOLDER = b"/path/to/phrase-scorer-ems"  # in the config
# A config of EMS cuts at blanks and #, replaces $name and VERSION, and moves | and < about.
_BAD_IN_CONFIG = re.compile(r"""[\s#$"'|<>\\;&()*?]|VERSION""")


def write_ems_files(folder: Path, program: Path) -> list[Path]:
    """Writes the two scripts, executable, and the config lines into an existing folder.

    The scripts will run `program`, the command phrase-scorer. Returns the files. UsageError for a
    folder whose path a config of EMS cannot hold.
    """
    folder = real_path(folder)
    if _BAD_IN_CONFIG.search(str(folder)):
        raise UsageError(f"a config of EMS cannot hold the path {quoted(str(folder))}")
    ours = resources.files(__name__)
    written = []
    for name in (*SCRIPTS, CONFIG_LINES):
        content = ours.joinpath(name).read_bytes()
        content = content.replace(_PROGRAM, os.fsencode(f"program={shlex.quote(str(program))}\n"))
        written.append(folder / name)
        write_file(written[-1], content.replace(_FOLDER, os.fsencode(folder)))
        if name in SCRIPTS:
            written[-1].chmod(0o755)
    return written


def installed_program() -> Path:
    """The command phrase-scorer: beside the Python that runs, else on PATH, else a UsageError."""
    beside = Path(sys.executable).with_name("phrase-scorer")
    if beside.is_file():
        return beside
    found = shutil.which("phrase-scorer")
    if found is None:
        raise UsageError(f"the command phrase-scorer is neither in {beside.parent} nor on PATH")
    return Path(found).absolute()
