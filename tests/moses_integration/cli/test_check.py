"""`check` as a user meets it: what it prints, its exit codes."""

from __future__ import annotations

from toys import TOY_INI, TOY_TABLE


def test_check_of_a_good_table(run, folder):
    (folder / "t").write_bytes(TOY_TABLE)
    (folder / "ini").write_text(TOY_INI.format("t"))
    done = run("check", "t", "--moses-ini", "ini")
    assert (done.code, done.err) == (0, "")
    assert done.out == "t: 4 entries with 2 scores; 0 errors, 0 warnings\n"


def test_check_tells_errors_and_exits_1(run, folder):
    (folder / "t").write_bytes(TOY_TABLE + b"\nm ||| x ||| 1 -1\nn\x07 ||| x ||| 1 1\n")
    done = run("check", "t")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines() == [
        't:5: blank line: ""',
        't:6: negative score (Moses takes the logarithm of each): "-1"',
        't:7: warning: control character in a line: "n\\x07 ||| x ||| 1 1"',
        "t: 7 entries with 2 scores; 2 errors, 1 warnings",
    ]


def test_check_shows_twenty_of_a_kind_unless_all_are_wanted(run, folder):
    (folder / "t").write_bytes(TOY_TABLE + b"m  n ||| x ||| 1 1\n" * 1025)
    done = run("check", "t")
    assert done.code == 0
    shown = done.out.splitlines()
    kind = "warning: double blank (CreateProbingPT takes it for one more score or word)"
    assert len(shown) == 22
    assert shown[19] == f't:24: {kind}: "m  n ||| x ||| 1 1"'
    assert shown[20] == f"t: {kind}: 1,005 more"
    assert shown[21] == "t: 1,029 entries with 2 scores; 0 errors, 1,025 warnings"
    assert len(run("check", "t", "--all").out.splitlines()) == 1026


def test_check_needs_an_ini_for_a_table_name(run, folder):
    done = run("check", "t", "--table-name", "TM0")
    assert (done.code, done.error) == (2, "--table-name needs --moses-ini")
