"""`phrase-scorer experiment table1` without Moses: its commands and what it refuses."""

from __future__ import annotations

CONFIG = """
moses_ini = "moses.ini"
[tuning]
source = "val.en"
reference = "val.fr"
runs = 1
[[test]]
name = "test"
source = "test.en"
reference = "test.fr"
[[network]]
name = "forward"
pairs = "table.gz"
[[system]]
name = "Baseline"
[[system]]
name = "RNN"
models = ["forward"]
"""
TABLE1 = ("experiment", "table1", "--config", "e.toml", "--output-dir", "out")


def test_a_dry_run_shows_the_commands_and_does_nothing(run, folder):
    (folder / "e.toml").write_text(CONFIG)
    code, out, error = run(*TABLE1, "--dry-run", "--moses-scripts", "a b")
    assert (code, error) == (0, "")
    commands = out.splitlines()
    assert [line.split()[:2] for line in commands] == [
        ["phrase-scorer", name]
        for name in ("filter", "tune", "decode", "train", "rescore", "tune", "decode")
    ]
    assert commands[1].endswith(" --runs 1 --threads 1 --moses-scripts 'a b'")
    assert [path.name for path in folder.iterdir()] == ["e.toml"]


def test_refusals(run, folder):
    assert run(*TABLE1) == (1, "", "error: e.toml: cannot read: No such file or directory\n")
    (folder / "e.toml").write_text(CONFIG.replace("runs = 1", "run = 1"))
    code, out, error = run(*TABLE1, "--dry-run")
    assert (code, out) == (1, "")
    assert error == (
        "error: e.toml: unknown key in [tuning] (known: name, options, reference, runs, source): "
        '"run"\n'
    )


def test_options_that_a_command_does_not_take(run, folder):
    """Told before anything is done, not hours later by the step."""
    for options, message in (
        (
            '["--threads", "3"]',
            "train forward: --threads is given twice (1, 3); it takes one value",
        ),
        ('["--zzz", "3"]', "train forward: No such option '--zzz'."),
        (
            '["--learning-rate", "nan"]',
            "train forward: --learning-rate must be a number above 0 and at most 1e+06, not nan",
        ),
    ):
        text = CONFIG.replace('"table.gz"', f'"table.gz"\noptions = {options}')
        (folder / "e.toml").write_text(text)
        assert run(*TABLE1) == (2, "", f"error: {message}\n")
    assert [path.name for path in folder.iterdir()] == ["e.toml"]
