"""`gradients` and `experiment systems` as a user meets them."""

from __future__ import annotations

import pytest

from phrase_scorer.cli.options import COUNT


def test_gradients(run, folder):
    (folder / "text").write_text("the red house\na man and a dog\n" * 9)
    code, out, error = run(
        "gradients", "--text", "text", "--output-dir", "g", "--updates", 3, "--distances", "2,4",
        "--steps", 5, "--hidden", 4, "--cells", "rnn,lstm",
    )  # fmt: skip
    assert code == 0
    assert "| sentences, trained | 4 |" in out
    assert error == "written: g/gradients.json, g/gradients.png, g/gradients.svg\n"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--distances", "2,x"], 2, f"--distances must be {COUNT}, not x"),
        (["--cells", "elman"], 2, "unknown cell 'elman'; choose from rnn, lstm, gru"),
        (["--text", "none"], 1, "none: cannot read: No such file or directory"),
        (["--text", "empty"], 1, "empty: no text"),
    ],
)
def test_gradients_wrongly(run, folder, options, code, message):
    (folder / "empty").write_text("\n")
    found = run("gradients", "--output-dir", "g", *options, "--quiet")
    assert found == (code, "", f"error: {message}\n")


@pytest.mark.slow
@pytest.mark.usefixtures("table")
def test_experiment_systems(run, folder):
    code, out, error = run(
        "experiment", "systems", "table", "--output-dir", "s", "--systems", "LSTM,decoder-only",
        "--parameters", 20000, "--minutes", 0.001, "--validation-pairs", 2, "--threads", 1,
    )  # fmt: skip
    assert code == 0
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == [
        "| LSTM", "| decoder-only", "| the counts themselves",
    ]  # fmt: skip
    assert error.splitlines()[-1] == (
        "written: s/systems.md, s/systems.json, s/systems.svg, s/systems.png"
    )
    code, out, error = run("experiment", "systems", "table", "--output-dir", "s", "--systems", "x")
    assert (code, out) == (2, "")
    assert error.startswith("error: unknown system 'x'; choose from vanilla RNN, LSTM, GRU")
