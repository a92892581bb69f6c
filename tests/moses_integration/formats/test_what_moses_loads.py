"""Each line is loaded by the real Moses, or stops it: `check_table` finds errors in the latter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from moses_integration.decoder.programs import Moses
from moses_integration.formats.table_check import Finding, check_table

INI = b"""[input-factors]
0
[mapping]
0 T 0
[feature]
UnknownWordPenalty
WordPenalty
PhrasePenalty
Distortion
PhraseDictionaryMemory name=TM0 num-features=1 path=t input-factor=0 output-factor=0
[weight]
UnknownWordPenalty0= 1
WordPenalty0= -1
PhrasePenalty0= 0.2
Distortion0= 0.3
TM0= 0.2
"""

LOADED = [
    *(b"[ a ||| [ b ||| 1", b"a ||| b ] ||| 1", b"a ||| x[1] b ||| 1", b"a ||| [1 b ||| 1"),
    *(b"a ||| [x]|y b ||| 1", b"a ||| b|c|d|e ||| 1", b"a ||| | ||| 1", b"a ||| ||| 1"),
    *(b"a ||| b ||| 1 ||| 0-0\r", b"a ||| b ||| 1\r", b"a ||| b \x0c ||| 1 ||| 0-1"),
    *(b"a ||| b \x0bc\r ||| 1 ||| 0-1", b"a\tb ||| c |||\t1\t||| 0-0\t1-0"),
    *(b"a ||| b ||| 1 ||| ||| ||| k", b"a ||| b ||| 1 ||| ||| ||| k v j"),
]
STOPPED = [
    *(b"a ||| [1] b ||| 1", b"[1] a ||| b ||| 1", b"[] a ||| b ||| 1", b"a ||| [x|y] b ||| 1"),
    *(b"[A][B] a ||| b ||| 1", b"a ||| b|c|d|e|f ||| 1", b"a|b|c|d|e ||| x ||| 1"),
    *(b"a ||| b ||| 1\r\r", b"a ||| b ||| 1 \r ||| 0-0", b"a ||| b ||| 1\x0b", b"\r", b""),
    *(b"a ||| b ||| 1 ||| \r ||| 1 1 1", b"a ||| b ||| 1 ||| 0-0\x0c", b"a ||| b ||| 1 ||| 0"),
    *(b"a ||| b ||| 1 ||| 0-0-0", b"a ||| b ||| 1 ||| 0-99999", b"a|||b|||1", b"a ||| b ||| nan"),
]
LOADED_PROPERTIES = """
{{Counts 1 1 1}}|{{Counts 1 1 1 x}}|{{Counts 0 -1 1}}|{{ Counts 1 1 1}}|{{Counts 1 1 1
{{Counts 1 1 1}} junk|{{Counts  1  1 1}}|{{Counts 1	1	1}}|{{Tree }}|
{{Counts 1 1 1}}{{Counts 1 1 1}}|{{Orientation 1 1 1 1 1 1 1 1}}|{{Tree [X a]}}|{{Tree x}}
{{Orientation 1 1 1 1 1 1 1 1 x}}|{{SourceLabels 1 1}}|{{SourceLabels 1 1 3 1}}
{{SourceLabels 2 1 3 1 1 3 1}}|{{TargetPreferences 1 1}}|{{TargetPreferences 2 1 3 1 1 3 1}}
{{TargetConstituentBoundariesLeft a<b 1}}|{{TargetConstituentBoundariesLeft a b}}
{{TargetConstituentBoundariesRightAdjacent a<b 1 c 2}}|{{SpanLength 0,1,1 1}}|{{SpanLength 1}}
{{SpanLength x}}|{{NonTermContext 1 0 a b c d 1}}|{{NonTermContext 0}}|{{NonTermContext 0 1}}
"""
STOPPED_PROPERTIES = """
{{Counts x}}|{{Counts 1 1}}|{{Counts}}|{{Counts }}|{{}}|{{Counts 1 1 1}|x|x y|{{Counts	1 1 1}}
junk {{Counts 1 1 1}}|{{Counts nan 1 1}}|{{Counts 1e 1 1}}|{{Counts 1e999 1 1}}|{{Tree}}
{{Counts 1e39 1 1}}|{{Orientation 0.1 0.2 0.7}}|{{Orientation 1 1 1 1 1 1 1 x}}|{{Mine 1}}
{{SourceLabels 1 1 3}}|{{SourceLabels 1 1 3 1 }}|{{SourceLabels x 1}}|{{SourceLabels 0 1 3 1}}
{{SourceLabels 2 1 3 1 1 3}}|{{SourceLabels 2 1 3 1 x}}|{{SourceLabels 1.5 1}}
{{TargetPreferences 1 1 3}}|{{TargetPreferences x}}|{{TargetConstituentBoundariesLeft a<b}}
{{TargetConstituentBoundariesLeft a b c}}|{{TargetConstituentBoundariesRightAdjacent a<b}}
{{SpanLength 0,1}}|{{SpanLength 0,1,1,1 1}}|{{SpanLength 99999999999,1,1 1}}|{{SpanLength ,,}}
{{NonTermContext 1 0 a b}}|{{NonTermContext 99999999999}}
"""


def properties(text: str) -> list[bytes]:
    found = text.strip("\n").replace("\n", "|").split("|")
    return [b"a ||| b ||| 1 ||| ||| ||| ||| " + one.encode() for one in found]


def errors(path: Path) -> list[Finding]:
    found: list[Finding] = []
    check_table(path, on_finding=found.append)
    return [finding for finding in found if finding.level == "error"]


def is_loaded(moses: Moses, folder: Path, ini: bytes = INI) -> bool:
    command = [moses.bin / "moses", "-f", "ini", "-v", "0"]
    (folder / "ini").write_bytes(ini)
    done = subprocess.run(command, input=b"a\n", cwd=folder, capture_output=True)
    return done.returncode == 0


@pytest.mark.moses
@pytest.mark.parametrize("line", [*LOADED, *properties(LOADED_PROPERTIES)])
def test_what_moses_loads_has_no_errors(line, moses, tmp_path):
    (tmp_path / "t").write_bytes(line + b"\n")
    assert is_loaded(moses, tmp_path)
    assert errors(tmp_path / "t") == []


@pytest.mark.moses
@pytest.mark.parametrize("line", [*STOPPED, *properties(STOPPED_PROPERTIES)])
def test_what_stops_moses_is_an_error(line, moses, tmp_path):
    (tmp_path / "t").write_bytes(line + b"\n")
    assert not is_loaded(moses, tmp_path)
    assert len(errors(tmp_path / "t")) == 1


@pytest.mark.moses
@pytest.mark.parametrize(("target", "good"), [(b"b|X c|Y", True), (b"b c|Y", False)])
def test_factors_of_the_moses_ini(target, good, moses, run, folder):
    (folder / "t").write_bytes(b"a ||| " + target + b" ||| 1\n")
    ini = INI.replace(b"output-factor=0", b"output-factor=0,1")
    assert is_loaded(moses, folder, ini) == good
    done = run("check", "t", "--moses-ini", "ini")
    few = 't:1: fewer than the 2 factors of moses.ini (Moses stops): "b"\n'
    assert (done.code, done.out.startswith(few)) == ((0, False) if good else (1, True))


@pytest.mark.moses
@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\xef\xbb\xbf# comment\n", b"5\n"])
def test_text_before_the_first_section_of_the_moses_ini(before, moses, run, folder):
    (folder / "t").write_bytes(b"a ||| b ||| 1\n")
    assert not is_loaded(moses, folder, before + INI)
    assert run("check", "t", "--moses-ini", "ini").error.startswith(
        "ini:1: a line before the first"
    )
