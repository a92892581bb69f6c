"""A rescored table with its model, a training log, a tuning; and the report of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys import TOY_INI, save_model, toy_lines

from moses_integration.cli import main

HOSTILE = (
    b"</script><b>la</b> ||| <img src=x onerror=alert(1)> ||| 0.5 0.5 0.5 0.5 ||| 0-0 ||| 1 2 1"
)


def rescored(folder: Path) -> Path:
    """A table with a column of the model in folder/rnn; in it a phrase that is HTML."""
    long = [
        b"la maison bleue le ||| the blue house ||| 0.5 0.5 0.6 0.5 ||| 0-0 ||| 9 5 3",
        b"la maison bleue le ||| the house ||| 0.5 0.5 0.4 0.5 ||| 0-0 ||| 9 5 2",
    ]
    lines = [HOSTILE, HOSTILE.replace(b"onerror", b"y"), *long, *toy_lines(300)]
    (folder / "table").write_bytes(b"".join(line + b"\n" for line in lines))
    model = save_model(folder / "rnn")
    log = [
        {"update": 50, "seconds": 30.0, "train_loss": 3.5, "gradient_norm": 1.5,
         "learning_rate": 0.01},
        {"update": 100, "seconds": 60.0, "validation_loss": 2.5},
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in log)
    (model / "training_log.jsonl").write_text(text)
    command = ["rescore", folder / "table", folder / "table.rnn", "--model", model, "--quiet"]
    command += ["--threads", "1", "--log", folder / "rescore.log"]
    assert main([*map(str, command)]) == 0
    return folder / "table.rnn"


def tuned(folder: Path) -> Path:
    """What `tune` leaves of two runs, the second unfinished."""
    path = folder / "tuned"
    ini = TOY_INI.format("pt.gz").replace("features=2", "features=5")
    ini = ini.replace("0.2 0.3", "0.1 0.2 0.3 0.1 0.2")
    for number in (1, 2):
        mert = path / f"run{number}" / "mert"
        mert.mkdir(parents=True)
        (mert / "features.list").write_text(
            "UnknownWordPenalty0 UNTUNEABLE\nWordPenalty0= -1\nTM0= 0.1 0.2 0.3 0.1 0.2\n"
        )
        for iteration in (1, 2):
            found = f"-0.5 0.1 0.2 0.3 0.1 0.0{iteration}"
            (mert / f"run{iteration}.mert.log").write_text(
                f"noise\nBest point: {found}  => 0.5{number}{iteration}\nStopping...\n"
            )
    (path / "moses.ini").write_text(ini)
    weights = {"WordPenalty0": [-0.5], "TM0": [0.1, 0.2, 0.3, 0.1, 0.02]}
    run = {"number": 1, "seed": 7, "dev_bleu": 51.5, "weights": weights, "seconds": 3.0}
    (path / "run1" / "run.json").write_text(json.dumps(run))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rescored table; rnn/, tuned/ and rescore.log are beside it."""
    folder = tmp_path_factory.mktemp("report")
    tuned(folder)
    return rescored(folder)


@pytest.fixture(scope="session")
def written(table: Path) -> Path:
    """The page of everything; its JSON is beside it."""
    pytest.importorskip("vl_convert")
    page = table.parent / "out" / "report.html"
    page.parent.mkdir()
    beside = table.parent
    command = ["report", table, "--model", beside / "rnn", "--tuning", beside / "tuned",
               "--log", beside / "rescore.log", "--output", page, "--quiet"]  # fmt: skip
    assert main([*map(str, command)]) == 0
    return page
