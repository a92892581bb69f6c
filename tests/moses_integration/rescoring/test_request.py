"""What `rescore` is asked for: refused at once, or complete."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import TOY_INI, TOY_TABLE

from moses_integration.rescoring.request import RescoreRequest, check_floor
from moses_integration.system.check import IniTarget
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError
from phrase_scorer.runtime.device import Arithmetic

MODEL = Path("model")  # it is not there: nothing here may ask for it


@pytest.fixture(autouse=True)
def table(folder: Path) -> None:
    Path("t").write_bytes(TOY_TABLE)
    Path("ini").write_text(TOY_INI.format("t"))
    Path("taken").mkdir()
    os.mkfifo("fifo")


def asked(**options: object) -> RescoreRequest:
    return RescoreRequest(**{"table": "t", "output": "out", "models": (MODEL,), **options})


@pytest.mark.parametrize("floor", [-87.0, -50.0, -1e-9])
def test_floor_that_can_be(floor):
    check_floor(floor)


@pytest.mark.parametrize(
    ("floor", "shown"),
    [(0.0, "0"), (1.0, "1"), (-87.5, "-87.5"), (-np.inf, "-inf"), (np.inf, "inf"), (np.nan, "nan")],
)
def test_floor_that_cannot_be(floor, shown):
    with pytest.raises(UsageError) as caught:
        check_floor(floor)
    assert str(caught.value) == f"--floor must be from -87 to below 0, not {shown}"


INI_OUT = IniTarget("ini", "new.ini")
REFUSED = {
    "no model": ({"models": ()}, "give --model DIR, --inverse-model DIR, or several of them"),
    "weights": ({"weights": (1.0, 2.0)}, "--weight is given twice, but there is one new column"),
    "floor": ({"floor": 0.0}, "--floor must be from -87 to below 0, not 0"),
    "no output": ({"output": None}, "OUTPUT is missing (or use --estimate)"),
    "no table": ({"table": "no"}, "no: cannot read: No such file or directory"),
    "output is input": ({"output": "./t"}, "./t: the output would overwrite the input"),
    "output is a folder": ({"output": "taken"}, "taken: cannot write: Is a directory"),
    "no such folder": ({"output": "no/out"}, "no/out: cannot write: No such file or directory"),
    "resume stdout": (
        {"output": "-", "resume": True},
        "--resume needs a file to go on with, not -",
    ),
    "resume a FIFO": (
        {"output": "fifo", "resume": True},
        "--resume needs a file to go on with, not fifo",
    ),
    "ini for a FIFO": (
        {"output": "fifo", "ini_target": INI_OUT},
        "--moses-ini-out needs a file as OUTPUT, not fifo",
    ),
    "ini over the output": (
        {"output": "new.ini", "ini_target": INI_OUT},
        "--moses-ini-out would overwrite OUTPUT: new.ini",
    ),
    "ini is a folder": (
        {"ini_target": IniTarget("ini", "taken")},
        "--moses-ini-out taken is a folder",
    ),
    "no such ini": (
        {"ini_target": IniTarget("no")},
        "no: cannot read: No such file or directory",
    ),
    "weight that is no number": (
        {"ini_target": INI_OUT, "weights": (np.nan,)},
        "every new column needs a finite start weight, given: nan",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_without_a_model(kind, folder):
    options, expected = REFUSED[kind]
    before = sorted(os.listdir(folder))
    with pytest.raises(PhraseScorerError) as caught:
        asked(**options)
    assert str(caught.value) == expected
    assert sorted(os.listdir(folder)) == before


def test_a_refusal_does_not_import_torch():
    """Nor does what leads to it, from the command line on."""
    said = "import sys; from moses_integration.cli import main; "
    said += "code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    command = [sys.executable, "-c", said, "rescore", "t", "out", "--model", "m", "--floor", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (
        "2 False\n",
        "error: --floor must be a number from -87 to 0, not 1\n",
    )


def test_an_estimate_needs_no_output_and_makes_none(folder):
    before = sorted(os.listdir(folder))
    assert asked(output=None, estimate=True).files.output is None
    Path("taken/moses.ini").write_text(TOY_INI.format(folder / "t"))
    assert asked(table="taken", output="new", estimate=True).files.output is None
    assert sorted(os.listdir(folder)) == before


def test_a_weight_for_each_column():
    assert asked().start_weights == (0.1,)
    several = {"models": (MODEL, MODEL), "inverse_models": (MODEL,), "unknown_words": True}
    assert asked(**several, weights=(0.5,)).start_weights == (0.5,) * 4
    assert asked(**several, ensemble=True).start_weights == (0.1,) * 3
    assert asked(**several, weights=(1, 2, 3, 4)).start_weights == (1, 2, 3, 4)


def test_a_folder_is_its_table_and_its_ini(folder):
    Path("taken/moses.ini").write_text(TOY_INI.format("../t"))
    request = asked(table="taken", output="new")
    assert request.files.table == str(folder / "t")
    assert request.files.output == str(folder / "new" / "t")
    assert request.files.ini_target == IniTarget("taken/moses.ini", "new/moses.ini")
    assert not Path("new").exists()
    with pytest.raises(ZeroDivisionError), request.folder_made():
        assert os.listdir("new") == []
        1 / 0  # noqa: B018
    assert not Path("new").exists()
    with request.folder_made():
        Path("new/t.partial").touch()
    with pytest.raises(UsageError, match="OUTPUT new is not empty; choose a new folder"):
        asked(table="taken", output="new")
    assert asked(table="taken", output="new", resume=True).files == request.files


def test_scores_that_are_not_the_ini_s():
    asked().require_scores(7)
    request = asked(ini_target=IniTarget("ini"))
    request.require_scores(2)
    with pytest.raises(DataError, match="num-features is 2 but the phrase table has 7 scores"):
        request.require_scores(7)


def test_a_small_table_is_scored_in_one_process(monkeypatch):
    request = asked(arithmetic=Arithmetic(threads=3))
    assert request.processes == 1
    assert replace(request, table="-").processes == 3
    monkeypatch.setattr("moses_integration.rescoring.request.SMALL_INPUT", 10)
    assert request.processes == 3
