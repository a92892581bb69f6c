"""Decoding: the column does what it should and nothing else; nothing half-written stays."""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from moses_integration.decoder.decoding import (
    Decoder,
    DecodeRequest,
    NBest,
    compare_nbest,
    split_flags,
    translate,
)
from moses_integration.decoder.programs import Moses, ProgramError
from moses_integration.formats.ini_edits import with_weights
from moses_integration.formats.moses_ini import MosesIni, weights_of
from phrase_scorer.errors import DataError, PhraseScorerError, UsageError

WEIGHT = 0.4


class Entry(NamedTuple):
    """A line of an n-best list, read without the project's reader."""

    sentence: int
    hypothesis: str
    features: str
    total: float
    segmentation: str

    @property
    def scores(self) -> list[float]:
        """Of the phrase table."""
        found = re.search(r"TranslationModel0= ([-\d.e ]+)", self.features)
        assert found
        return [float(value) for value in found[1].split()]

    @property
    def key(self) -> tuple[int, str, str]:
        return self.sentence, self.hypothesis, self.segmentation


def read(path: Path) -> list[Entry]:
    rows = [line.split(" ||| ") for line in path.read_text().splitlines()]
    return [Entry(int(r[0]), r[1].strip(), r[2], float(r[3]), r[4].strip()) for r in rows]


def reweighted(model: Path, name: str, weight: float) -> Path:
    """The rescored model, with that weight for the new column."""
    ini = MosesIni.read(model / "new" / "moses.ini")
    kept = weights_of(ini)["TranslationModel0"][:-1]
    path = model / f"{name}.ini"
    path.write_bytes(with_weights(ini, {"TranslationModel0": (*kept, weight)}).to_bytes())
    return path


def decode(
    moses: Moses, ini: Path | str, source: object, output: object,
    *, log: Path, nbest: NBest | None = None, **how: object,
) -> int:  # fmt: skip
    """Translates without a progress bar."""
    decoder, files = Decoder(moses, **how), (str(source), str(output))
    request = DecodeRequest(str(ini), decoder, nbest or NBest(), *files, log, quiet=True)
    return translate(request)


@pytest.fixture(scope="module")
def lists(moses: Moses, moses_model: Path) -> dict[str, list[Entry]]:
    """N-best lists of the old model and of the new one with the weights 0 and WEIGHT."""
    inis = {
        "old": moses_model / "old" / "moses.ini",
        "zero": reweighted(moses_model, "zero", 0.0),
        "new": reweighted(moses_model, "new", WEIGHT),
    }
    for name, ini in inis.items():
        decode(
            moses, ini, moses_model / "tune.en", moses_model / f"{name}.out",
            nbest=NBest((moses_model / f"{name}.nbest", 50), segmentation=True),
            log=moses_model / f"{name}.log",
        )  # fmt: skip
    return {name: read(moses_model / f"{name}.nbest") for name in inis}


@pytest.mark.moses
def test_weight_zero_changes_nothing(lists, moses_model):
    old, zero = lists["old"], lists["zero"]
    assert [(entry.key, entry.total) for entry in zero] == [(e.key, e.total) for e in old]
    assert [entry.scores[:-1] for entry in zero] == [entry.scores for entry in old]
    assert len(old) > 1000
    assert len({entry.sentence for entry in old}) == 30
    assert (moses_model / "old.out").read_bytes() == (moses_model / "zero.out").read_bytes()


def column_sum(entry: Entry, sources: list[list[str]], column: dict[tuple[str, str], float]):
    """Sum of ln p over the phrases of a hypothesis; None with a word that the table has not."""
    source, target, total = sources[entry.sentence], entry.hypothesis.split(), 0.0
    for part in entry.segmentation.split():
        spans = [[int(n) for n in side.split("-")] for side in part.split("=")]
        phrases = [
            " ".join(w[s[0] : s[-1] + 1]) for w, s in zip((source, target), spans, strict=True)
        ]
        value = column.get((phrases[0], phrases[1]))
        if value is None:
            return None
        total += value
    return total


@pytest.mark.moses
def test_totals_change_by_the_weighted_log_probabilities(lists, moses_model):
    """new total = old total + weight × sum of ln p over the phrases, as the table has p."""
    table = gzip.decompress((moses_model / "new" / "phrase-table.gz").read_bytes()).decode()
    rows = [line.split("|||") for line in table.splitlines()]
    column = {(r[0].strip(), r[1].strip()): math.log(float(r[2].split()[-1])) for r in rows}
    assert len(column) == len(rows)
    sources = [line.split() for line in (moses_model / "tune.en").read_text().splitlines()]
    before = {entry.key: entry.total for entry in lists["old"]}
    checked = 0
    for entry in lists["new"]:
        expected = column_sum(entry, sources, column)
        if expected is None:
            continue
        assert entry.scores[-1] == pytest.approx(expected, rel=1e-5)
        if entry.key in before:
            change = entry.total - before[entry.key]
            assert change == pytest.approx(WEIGHT * expected, abs=2e-4)  # six digits are printed
            checked += 1
    assert checked > 200


@pytest.mark.moses
def test_other_weight_other_translations(lists, moses_model):
    assert [e.key for e in lists["new"]] != [e.key for e in lists["old"]]
    outputs = [(moses_model / f"{name}.out").read_text() for name in ("old", "new")]
    assert outputs[0] != outputs[1]
    assert [text.count("\n") for text in outputs] == [30, 30]


@pytest.mark.moses
def test_compressed_list_and_alignment(moses, moses_model, tmp_path):
    ini = moses_model / "new" / "moses.ini"
    for name in ("nbest", "nbest.gz"):
        count = decode(
            moses, ini, moses_model / "tune.en", tmp_path / "out",
            nbest=NBest((tmp_path / name, 3), distinct=True, alignment=True),
            log=tmp_path / "log",
        )  # fmt: skip
        assert count == 30
    plain = (tmp_path / "nbest").read_bytes()
    assert gzip.decompress((tmp_path / "nbest.gz").read_bytes()) == plain
    for sentence in range(30):
        entries = [e for e in read(tmp_path / "nbest") if e.sentence == sentence]
        assert 1 <= len(entries) <= 3
        assert len({entry.hypothesis for entry in entries}) == len(entries)
        first = (tmp_path / "out").read_text().splitlines()[sentence]
        assert first == entries[0].hypothesis
        assert all(re.fullmatch(r"\d+-\d+( \d+-\d+)*", e.segmentation) for e in entries)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "nbest", "nbest.gz", "out"]


@pytest.mark.moses
def test_moses2_translates_alike(moses, moses_model, tmp_path):
    """Both decoders find the same with the new column; their lists name the same totals."""
    ini = moses_model / "new" / "moses.ini"
    for decoder in ("moses", "moses2"):
        decode(
            moses, ini, moses_model / "tune.en", tmp_path / decoder,
            decoder=decoder, threads=2, nbest=NBest((tmp_path / f"{decoder}.nbest", 2)),
            log=tmp_path / "log",
        )  # fmt: skip
    assert (tmp_path / "moses").read_bytes() == (tmp_path / "moses2").read_bytes()
    best = []
    for decoder in ("moses", "moses2"):
        rows = (tmp_path / f"{decoder}.nbest").read_text().splitlines()
        totals = {}
        for row in rows:
            totals.setdefault(row.split(" ||| ")[0], float(row.split(" ||| ")[3]))
        best.append(totals)
    assert best[0] == pytest.approx(best[1], abs=1e-3)


def test_moses2_and_what_it_cannot_write(tmp_path):
    nbest, decoder = NBest((tmp_path / "n", 5), segmentation=True), Decoder(Moses("none"), "moses2")
    with pytest.raises(UsageError) as caught:
        DecodeRequest("moses.ini", decoder, nbest, log=tmp_path / "l")
    expected = "moses2 writes no segmentation and no alignment into n-best lists"
    assert str(caught.value) == expected


@pytest.mark.moses
@pytest.mark.parametrize("score", [b"nan", b"0,5"])
def test_decoder_that_dies(score, moses, moses_model, tmp_path):
    """The table's first entry is well, so only the decoder can tell."""
    table = gzip.decompress((moses_model / "new" / "phrase-table.gz").read_bytes())
    lines = table.splitlines(keepends=True)
    fields = lines[200].split(b" ||| ")
    fields[2] = fields[2].rsplit(b" ", 1)[0] + b" " + score
    lines[200] = b" ||| ".join(fields)
    (tmp_path / "phrase-table.gz").write_bytes(gzip.compress(b"".join(lines)))
    text = (moses_model / "new" / "moses.ini").read_text()
    text = re.sub(r"path=\S+/phrase-table.gz", "path=phrase-table.gz", text)
    (tmp_path / "moses.ini").write_text(text)
    with pytest.raises(ProgramError) as caught:
        decode(
            moses, tmp_path / "moses.ini", moses_model / "tune.en", tmp_path / "out",
            nbest=NBest((tmp_path / "nbest.gz", 5)), log=tmp_path / "log",
        )  # fmt: skip
    said = str(caught.value)
    assert re.match(r"moses (failed with exit code \d+|was ended by SIG[A-Z]+): ", said)
    assert f"Bad score {score.decode()} on line 200" in said
    assert said.endswith(f"; its log is {tmp_path}/log")
    assert "\n" not in said
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["log", "moses.ini", "phrase-table.gz"]
    assert f"Bad score {score.decode()} on line 200" in (tmp_path / "log").read_text()


@pytest.mark.moses
def test_empty_input_and_relative_paths(moses, moses_model, tmp_path, monkeypatch):
    """Paths are sought beside the moses.ini, too; no line in, no line out."""
    text = (moses_model / "old" / "moses.ini").read_text()
    ini = moses_model / "old" / "relative.ini"
    ini.write_text(text.replace(f"path={moses_model}/old/", "path="))
    monkeypatch.chdir(tmp_path)
    Path("in").touch()
    count = decode(moses, ini, "in", "out", nbest=NBest((Path("nbest"), 5)), log=Path("log"))
    assert count == 0
    assert Path("out").read_bytes() == Path("nbest").read_bytes() == b""


# -- without Moses ---------------------------------------------------------------------------------


@pytest.fixture
def ini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model without files; a text in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("a\nb\n")
    path = tmp_path_factory.mktemp("model") / "moses.ini"
    path.write_bytes(b"[feature]\nDistortion\n")
    return path


TELLS_A_VERSION = """#!/bin/sh
[ "$1" = --version ] && { printf 'Moses code version:\\n  v1\\n'; exit; }
"""


def test_decoder_that_loses_a_line(ini, tmp_path):
    """No Moses does that on purpose: a shell script in its place."""
    Path("moses").write_text(f"{TELLS_A_VERSION}head -n 1\n")
    Path("moses").chmod(0o755)
    with pytest.raises(ProgramError) as caught:
        decode(Moses(tmp_path), ini, "in", "out", log=Path("log"))
    assert str(caught.value) == "moses wrote 1 lines for the 2 of in; its log is log"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "log", "moses"]


def test_lines_as_the_decoder_gives_them(ini, tmp_path):
    Path("moses").write_text(f"{TELLS_A_VERSION}echo $* >&2; sed 's/$/  /'\n")
    Path("moses").chmod(0o755)
    told: list[bytes] = []
    Path("in").write_bytes(b"a b \r\n\n\xff\xc2\xa0\xe2\x80\xa8")
    decoder = Decoder(Moses(tmp_path), decoder_flags="-s 5", threads=3)
    nbest = NBest((Path("n"), 7), distinct=True)
    lines = decoder.translations(Path("x.ini"), "in", Path("log"), nbest, told.append)
    assert lines == told == [b"a b \r", b"", b"\xff\xc2\xa0\xe2\x80\xa8"]
    version, _, said, _ = Path("log").read_text().splitlines()
    assert version == f"# Moses v1 in {tmp_path}"
    assert said == "-f x.ini -v 0 -threads 3 -s 5 -n-best-list n 7 distinct"


def test_what_cannot_be_written_is_told_beforehand(ini, tmp_path):
    """The decoder is not even sought."""
    cases = {
        ("no/out", "log"): (DataError, "no/out: cannot write: No such file or directory"),
        ("in", "log"): (DataError, "in: the output would overwrite the input"),
        ("out", "no/log"): (UsageError, "the log no/log: there is no folder no"),
    }
    for (output, log), (kind, expected) in cases.items():
        with pytest.raises(kind) as caught:
            decode(Moses("none"), ini, "in", output, log=Path(log))
        assert str(caught.value) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_model_is_checked_first(tmp_path):
    (tmp_path / "moses.ini").write_bytes(b"[feature]\nKENLM path=lm\n")
    with pytest.raises(DataError) as caught:
        decode(Moses("none"), tmp_path / "moses.ini", "-", "-", log=tmp_path / "log")
    expected = f'{tmp_path}/moses.ini:2: the file of this line is not there: "KENLM path=lm"'
    assert str(caught.value) == expected


def test_flags_are_cut_as_a_shell_does():
    assert split_flags("-s 100  -xml-input 'in clusive'") == [
        "-s",
        "100",
        "-xml-input",
        "in clusive",
    ]
    with pytest.raises(UsageError) as caught:
        split_flags("-s '1")
    assert str(caught.value) == '--decoder-flags: No closing quotation: "-s \'1"'


# -- comparing n-best lists ------------------------------------------------------------------------

NBEST = (
    "0 ||| a b  ||| LM0= -1 TM0= -2 -3.5 TM_x= 1 ||| -4\n"
    "0 ||| a c  ||| LM0= -2 TM0= -2 -3.5 ||| -5\n"
    "0 ||| a d  ||| LM0= -3 TM0= -2 -3.5 ||| -5\n"
    "0 ||| last  ||| LM0= -4 TM0= -2 -3.5 ||| -9\n"
    "1 ||| only  ||| LM0= -104.257 TM0= 0 -3.5 ||| -123.456\n"
)
LINES = NBEST.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("-104.257", "-104.256", None),  # the last of six digits
        ("TM0= 0", "TM0= 1e-10", None),  # what CreateProbingPT makes of a score of 1
        (" TM_x= 1", "", None),  # binary tables keep no sparse features
        ("last", "other", 'sentence 0, "last" is in one n-best list only'),
        (LINES[1] + LINES[2], LINES[2] + LINES[1], None),
        ("LM0= -1 ", "LM0= -1.5 ", 'sentence 0, "a b": LM0= -1, not -1.5'),
        ("-104.257", "-104.2", 'sentence 1, "only": LM0= -104.257, not -104.2'),
        ("TM0= -2 -3.5", "TM0= -2 -3.501", 'sentence 0, "a b": TM0= -2 -3.5, not -2 -3.501'),
        ("TM_x= 1", "TM_x= 2", 'sentence 0, "a b": TM_x= 1, not 2'),
        ("TM0= -2 -3.5 TM_x", "TM0= -2 TM_x", 'sentence 0, "a b": TM0= -2 -3.5, not -2'),
        ("LM0= -1 ", "", 'sentence 0, "a b": LM0 is in one n-best list only'),
        ("LM0= -1 ", "LM0= nan ", 'sentence 0, "a b": LM0= -1, not nan'),
        ("a b ", "a x ", 'sentence 0, "a b" is in one n-best list only'),
        ("||| -4\n", "||| -4.1\n", 'sentence 0, "a b": total -4, not -4.1'),
        (LINES[3], "", 'sentence 0, "last" is in one n-best list only'),
        (LINES[2], LINES[2] * 2, 'sentence 0, "a d" is in one n-best list only'),
        ("-9\n", "-9.5\n", 'sentence 0, "last": total -9, not -9.5'),
        (LINES[4], "", "sentence 1 is in one n-best list only"),
        (LINES[4], "2" + LINES[4][1:], "sentence 1 is in one n-best list only"),
    ],
)  # fmt: skip
def test_comparing_lists(old, new, message, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(NBEST)
    other.write_text(NBEST.replace(old, new, 1))
    if message is None:
        compare_nbest(one, other)
        return
    with pytest.raises(PhraseScorerError) as caught:
        compare_nbest(one, other)
    assert str(caught.value) == f"the binary table decodes otherwise: {message}"


def test_lists_cut_off_among_hypotheses_of_one_total(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(NBEST)
    other.write_text(NBEST.replace("last", "other"))
    compare_nbest(one, other, size=4)
    with pytest.raises(PhraseScorerError, match='0, "last" is in one n-best list only'):
        compare_nbest(one, other, size=5)  # there was room for more, so none was cut off
    other.write_text(NBEST.replace("a b", "a x"))
    with pytest.raises(PhraseScorerError, match='0, "a b" is in one n-best list only'):
        compare_nbest(one, other, size=4)
