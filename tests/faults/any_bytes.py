"""Files of any bytes: strategies that break valid ones, and what every command must do with them.

A result or one error line, never a traceback; no output where there is an error; no input touched.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from faults.scenarios import IN, OUT, TRAIN, Snapshot, make_inputs
from moses_integration.cli import main
from moses_integration.formats.phrase_table import PhraseTable
from phrase_scorer.runtime.journal import JournaledFile

SECONDS = 20  # a command on such small files that takes longer never ends
LONGEST_MESSAGE = 1000

# -- bytes -----------------------------------------------------------------------------------------

PIECES = [
    *(b"", b"|||", b" ||| ", b"|", b"\t", b"\n", b"\n\n", b"\r\n", b"\r", b"\x00", b"\x0b"),
    *(b"\x0c", b"\xff", b"\xef\xbb\xbf", "é\u2028\u0085".encode(), b"\x1b[31m", b"\\u0000", b"\\x"),
    *(b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"-0.0", b"1_0", b"0x1"),
    *(b"18446744073709551615", b"9" * 5000, b"1" + b"0" * 18, b"0." + b"3" * 400, "٣".encode()),
    *(b"[", b"]", b"[X]", b"[1]", b"[" * 3000, b"{", b"}", b'{"a":' * 3000, b"{{Counts x}}"),
    *(b"null", b"true", b'"', b"=", b"==", b"#", b"-", b"0-0", b"5-0", b",", b":", b"<unk>"),
    *(b"</s>", b"..", b"/", b"%s", b"{}", b"a" * 70_000, b"in/table", b"0=0", b"2=2", b"Name="),
]  # fmt: skip
MAGIC = [b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\x80\x02"]

PLACE = st.integers(0, 1 << 16)
CHANGE = (
    st.tuples(st.just("insert"), PLACE, st.sampled_from(PIECES))
    | st.tuples(st.just("replace"), PLACE, st.sampled_from(PIECES))
    | st.tuples(st.just("insert"), PLACE, st.binary(max_size=8))
    | st.tuples(st.just("flip"), PLACE, st.integers(0, 7))
    | st.tuples(st.sampled_from(["delete", "repeat", "cut", "word", "line"]), PLACE, PLACE)
)


def changed(content: bytes, change: tuple[str, int, Any]) -> bytes:
    """The content with one change."""
    kind, place, what = change
    at = place % (len(content) + 1)
    before, after = content[:at], content[at:]
    if kind == "insert":
        return before + what + after
    if kind == "replace":
        return before + what + after[len(what) :]
    if kind == "flip":
        return before + bytes([after[0] ^ 1 << what]) + after[1:] if after else content
    if kind == "delete":
        return before + after[what % 12 :]
    if kind == "repeat":
        return before + after[: what % 200] + after
    if kind == "cut":
        return before
    separator = b" " if kind == "word" else b"\n"
    parts = content.split(separator)
    one, other = place % len(parts), what % len(parts)
    parts[one], parts[other] = parts[other], parts[one]
    return separator.join(parts)


@st.composite
def broken(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """One of the contents with some changes; compressed and broken; or any bytes."""
    content = draw(st.sampled_from(contents))
    for change in draw(st.lists(CHANGE, min_size=1, max_size=4)):
        content = changed(content, change)
    wrapped = draw(st.integers(0, 19))
    if wrapped == 0:
        return draw(st.binary(max_size=100))
    if wrapped == 1:
        return changed(gzip.compress(content, mtime=0), draw(CHANGE))
    if wrapped == 2:
        return draw(st.sampled_from(MAGIC)) + content
    return content


HOSTILE_VALUES: list[Any] = [
    *(None, True, -1, 0, 3, 10**6, 10**18, 10**400, -0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "é\u2028\x1b[31m", "9" * 5000, [], {}, [1], {"x": 1}, [[]] * 50, "a\ud800"),
]


@st.composite
def broken_json(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON with another value or shape somewhere in it, or with bytes changed."""
    value = json.loads(content)
    if draw(st.integers(0, 3)) == 0:
        return draw(broken([content]))
    for _ in range(draw(st.integers(1, 2))):
        holder, key = draw(st.sampled_from([({"": value}, ""), *_places(value)]))
        new = deepcopy(draw(st.sampled_from([*HOSTILE_VALUES, "deep", "gone", "more"])))
        if new == "gone" and isinstance(holder, dict) and holder.get("") is not value:
            holder.pop(key, None)
        elif new == "more" and isinstance(holder, dict):
            holder["more"] = 1
        elif new == "deep":
            return json.dumps(value).encode().replace(b":", b":" + b"[" * 100_000, 1)
        elif key == "" and holder.get("") is value:
            value = new
            break
        else:
            holder[key] = new
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(list or dict, key) of all that is in a value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(inner)


@st.composite
def broken_tensors(draw: st.DrawFn, content: bytes) -> bytes:
    """A safetensors file with another header or other bytes."""
    size = int.from_bytes(content[:8], "little")
    if draw(st.booleans()):
        return draw(broken([content]))
    header = draw(broken_json(content[8 : 8 + size]))
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


# -- what is done with them ------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How a command ended that was run here."""

    code: int
    out: str
    err: str
    trace: str = ""  # of an exception that nobody expected


class NeverEndsError(Exception):
    """A command took too long."""


def _too_long(*_: object) -> None:
    raise NeverEndsError


def run(arguments: list[str]) -> Done:
    """Runs a command in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2))
    code, trace = 99, ""
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO())),
        ):
            code = main(arguments)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        trace = "".join(traceback.format_exception(error, limit=-12))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))  # type: ignore[attr-defined]
    return Done(code, *texts, trace)


def faults_of(done: Done, arguments: list[str]) -> list[str]:
    """What is wrong with how a command spoke: nothing should be."""
    if done.trace:
        return [f"traceback of {' '.join(arguments)}:\n{done.trace}"]
    lines = done.err.split("\n")[:-1]
    found = [f"exit code {done.code}"] * (done.code not in (0, 1, 2))
    errors = [line for line in lines if line.startswith("error: ")]
    told = done.code == 1 and arguments[0] == "check" and done.out  # its findings say it
    if done.code and not told and (len(errors) != 1 or lines[-1] != errors[0]):
        found.append("not one error line")
    if not done.code and errors:
        found.append("an error line, but exit code 0")
    found += ["not printable"] * (not all(line.isprintable() for line in lines))
    found += ["too long"] * (max(map(len, lines), default=0) > LONGEST_MESSAGE)
    return [f"{what}: {' '.join(arguments)}: {done.err[:500]!r}" for what in found]


NBEST = b"""\
0 ||| the house  ||| LM0= -19.9 WordPenalty0= -3 TM0= 0 -0.1 ||| -7.3 ||| 0-2=0-1 ||| 0-0 1-1
0 ||| the house blue ||| LM0= -9 WordPenalty0= -4 TM0= 0 -1.1 ||| -8.3 ||| 0-1=0-1 2=2 ||| 0-0 1-1
1 ||| cat  ||| LM0= -9 WordPenalty0= -4 TM0= 0 -1.1 ||| -8.3 ||| 0-2=0 |||
1 ||| black cat ||| LM0= -9 WordPenalty0= -4 TM0= 0 -1.1 ||| -8.3 ||| 0=0 1-2=1 ||| 0-0
"""
WEIGHTS = b"LM0= 0.5\nWordPenalty0= -1\nTM0= 0.2 0.3\n"
TOML = b"""\
moses_ini = "moses.ini"
threads = 2
[tuning]
source = "text"
reference = "text"
runs = 3
[[test]]
name = "test"
source = "text"
reference = "text"
[[network]]
name = "forward"
pairs = "table"
options = ["--weight-by-count"]
[[language_model]]
name = "cslm"
text = "text"
arpa = "lm.arpa"
nbest_of = "Baseline"
share = 0.5
[[system]]
name = "Baseline"
[[system]]
name = "RNN"
language_models = ["cslm"]
models = ["forward"]
weights = [0.1]
unknown_words = true
[reranking]
size = 200
"""
SCORING = ["--model", "in/rnn"]
RESCORE = ["rescore", "in/table", "out/t", *SCORING, "--quiet"]
KEEP = [*RESCORE, "--on-bad-line", "keep"]
NBEST_OUT = ["nbest", "in/list", "--output", "out/list", "--quiet"]
INFO = ["info", "in/rnn"]
EXPORT = [
    *("export-arpa", "--model", "in/cslm", "--arpa", "in/lm.arpa", "--quiet"),
    *("--output", "out/lm.arpa"),
]


@dataclass(frozen=True)
class Kind:
    """A kind of file, and the commands that read it."""

    name: str
    file: str  # which one is broken
    commands: list[list[str]]
    strategy: Callable[[bytes], st.SearchStrategy[bytes]] = lambda content: broken([content])
    check: Callable[[World, bytes, list[Done]], list[str]] = lambda *_: []


class World:
    """The inputs of all commands, in a folder that becomes the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_inputs(folder / IN)
        given = folder / IN
        for name, content in (("list", NBEST), ("weights", WEIGHTS), ("toml", TOML)):
            (given / name).write_bytes(content)
        os.chdir(folder)
        (folder / OUT).mkdir()
        self._succeed([*TRAIN, "--overwrite"])
        shutil.copytree("out/rnn", "in/trained")
        self._succeed(RESCORE)
        self.rescored = Path("out/t").read_bytes()
        shutil.copyfile("out/t.signature.json", "in/table.signature.json.kept")
        self._begin_rescoring()
        self.valid = {str(p): p.read_bytes() for p in Path(IN).rglob("*") if p.is_file()}

    def _succeed(self, arguments: list[str]) -> None:
        done = run(arguments)
        assert done.code == 0, done

    def _begin_rescoring(self) -> None:
        """Keeps what a rescoring that was broken off has left, as in/unfinished.*."""
        with (
            small_blocks(),
            mock.patch.object(JournaledFile, "complete", side_effect=KeyboardInterrupt),
            contextlib.suppress(KeyboardInterrupt),
        ):
            main([*RESCORE[:2], "out/u", *RESCORE[3:]])
        for name in ("partial", "journal"):
            content = Path(f"out/u.{name}").read_bytes()
            if name == "journal":
                content = b"".join(content.splitlines(keepends=True)[:3])
            Path(f"in/unfinished.{name}").write_bytes(content)

    def losses(self, kind: Kind, content: bytes) -> list[str]:
        """What is wrong after the commands have met that file."""
        place = Path(kind.file)
        found: list[str] = []
        done: list[Done] = []
        self.done = done
        try:
            for arguments in kind.commands:
                self._renew(kind, content)
                self.before = Snapshot.of(Path(IN))
                with small_blocks():
                    done.append(run(arguments))
                found += faults_of(done[-1], arguments)
                found += self._left(kind, arguments, done[-1])
            found += kind.check(self, content, done)
        finally:
            if str(place) in self.valid:
                place.write_bytes(self.valid[str(place)])
            else:
                place.unlink(missing_ok=True)
        return found

    def valid_of(self, kind: Kind) -> bytes:
        """A file of that kind as it should be."""
        made = {
            "out/rnn/training_state.safetensors": "in/trained/training_state.safetensors",
            "in/table.signature.json": "in/table.signature.json.kept",
            "out/t.journal": "in/unfinished.journal",
            "out/t.partial": "in/unfinished.partial",
        }
        return self.valid[made.get(kind.file, kind.file)]

    def _renew(self, kind: Kind, content: bytes) -> None:
        shutil.rmtree(OUT)
        Path(OUT).mkdir()
        if "--resume" in kind.commands[0] and kind.commands[0][0] == "train":
            shutil.copytree("in/trained", "out/rnn")
        for name in ("partial", "journal"):
            if f"unfinished.{name}" in kind.file or "unfinished" in kind.name:
                shutil.copyfile(f"in/unfinished.{name}", f"out/t.{name}")
        Path(kind.file).write_bytes(content)

    def _left(self, kind: Kind, arguments: list[str], done: Done) -> list[str]:
        found = []
        if Snapshot.of(Path(IN)) != self.before:
            found.append(f"an input is touched: {' '.join(arguments)}")
        left = {path.name for path in Path(OUT).rglob("*") if not path.is_dir()}
        if done.code and not done.trace and "--resume" not in arguments:
            left -= {"t.partial", "t.journal"}  # of a rescoring, to go on with
            found += [f"left by {' '.join(arguments)}: {sorted(left)}"] * bool(left)
        return found


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of ten entries, so that a small table has several."""
    defaults = PhraseTable.__init__.__kwdefaults__
    before, defaults["block_entries"] = defaults["block_entries"], 10
    try:
        yield
    finally:
        defaults["block_entries"] = before


# -- what must hold besides ------------------------------------------------------------------------

TELLS = ("stop", "keep")
ONLY_CHECKED = (  # errors that stop Moses, but not the scoring
    "alignment point",
    "property",
)


def agree(world: World, content: bytes, done: list[Done]) -> list[str]:
    """check and rescore agree on each line; what is kept is byte-equal."""
    checked, stopped, kept = done[:3]
    if checked.err.startswith("error") or kept.code:
        return []  # not a table at all, for both: see `Kind.commands`
    bad = _errors(checked.out)
    found = []
    if stopped.code == 0 and bad:
        found.append(f"check finds errors in lines {bad}, rescore none")
    if stopped.code and not bad:
        found.append(f"rescore stops ({stopped.err!r}), check finds no error")
    if stopped.code and bad and f"error: in/table:{bad[0]}:" not in stopped.err:
        found.append(f"rescore stops ({stopped.err!r}), check's first error is in line {bad[0]}")
    return found + _kept(content, Path("out/t").read_bytes(), bad)


def _errors(out: str) -> list[int]:
    """The lines of which check says what rescore would, too."""
    lines = []
    for line in out.split("\n")[:-2]:
        _, number, message = line.split(":", 2)
        message = message.partition(': "')[0]
        if not message.startswith(" warning:") and not any(
            part in message for part in ONLY_CHECKED
        ):
            lines.append(int(number))
    return sorted(set(lines))


def _kept(content: bytes, after: bytes, bad: list[int]) -> list[str]:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    found = []
    lines, new = content.split(b"\n"), after.split(b"\n")
    if len(lines) != len(new):
        return [f"{len(lines)} lines become {len(new)}"]
    for number, (one, other) in enumerate(zip(lines, new, strict=True), 1):
        if number == len(lines) and not one:
            continue
        fields, others = one.split(b"|||"), other.split(b"|||")
        same = len(fields) == len(others) and fields[:2] == others[:2] and fields[3:] == others[3:]
        if one != other and not (same and len(fields) > 2 and _is_longer(fields[2], others[2])):
            found.append(f"line {number}: {one!r} becomes {other!r}")
    return found


def _is_longer(scores: bytes, others: bytes) -> bool:
    """Whether one more score stands behind the same ones; blanks around them stay."""
    text = scores.rstrip(b" \t\r")
    if not others.startswith(text) or not others.endswith(scores[len(text) :]):
        return False
    added = others[len(text) : len(others) - len(scores) + len(text)]
    value = added.removeprefix(b" ")
    return value != added and b" " not in value and 0 < float(value) <= 1


def resumed(world: World, _: bytes, done: list[Done]) -> list[str]:
    """Going on with what is there gives the whole table, or an error line; never something else."""
    if done[0].code or Path("out/t").read_bytes() == world.rescored:
        return []
    return ["going on with a broken journal or partial file wrote another table"]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("table", "in/table", [["check", "in/table", "--all"], RESCORE, KEEP], check=agree),
        Kind(
            "table of pairs",
            "in/pairs",
            [["score", "in/pairs", *SCORING, "--output", "out/scores"],
             ["train", "in/pairs", *TRAIN[2:]]],
        ),
        Kind(
            "moses.ini",
            "in/moses.ini",
            [["ini", "in/moses.ini", "--output", "out/ini"],
             ["check", "in/table", "--moses-ini", "in/moses.ini"],
             [*RESCORE, "--moses-ini", "in/moses.ini", "--moses-ini-out", "out/ini"],
             ["filter", "--moses-ini", "in/moses.ini", "--input", "in/text",
              "--output-dir", "out/new", "--quiet"]],
        ),
        Kind(
            "n-best list",
            "in/list",
            [[*NBEST_OUT, "--source", "in/text", *SCORING, "--unknown-words"],
             [*NBEST_OUT, "--source", "in/text", *SCORING, "--level", "phrase"],
             [*NBEST_OUT, "--source", "in/text", "--cslm", "in/cslm"],
             [*NBEST_OUT, "--rerank", "in/weights"]],
        ),
        Kind("weights", "in/weights", [[*NBEST_OUT, "--rerank", "in/weights"]]),
        Kind(
            "ARPA file",
            "in/lm.arpa",
            [EXPORT,
             ["ini", "in/moses.ini", "--language-model", "in/lm.arpa", "--output", "out/ini"]],
        ),
        Kind("config.json", "in/rnn/config.json", [INFO, RESCORE], broken_json),
        Kind("model.safetensors", "in/rnn/model.safetensors", [INFO, RESCORE], broken_tensors),
        Kind("vocabulary", "in/rnn/target.vocab", [INFO, RESCORE]),
        Kind("config.json of a CSLM", "in/cslm/config.json", [EXPORT], broken_json),
        Kind(
            "training state", "out/rnn/training_state.safetensors", [[*TRAIN, "--resume"]],
            broken_tensors,
        ),
        Kind(
            "signature", "in/table.signature.json", [[*RESCORE, "--allow-duplicate"]], broken_json
        ),
        Kind("unfinished journal", "out/t.journal", [[*RESCORE, "--resume"]], check=resumed),
        Kind("unfinished partial file", "out/t.partial", [[*RESCORE, "--resume"]], check=resumed),
        Kind(
            "TOML", "in/toml",
            [["experiment", "table1", "--config", "in/toml", "--output-dir", "out/e", "--dry-run"]],
        ),
        Kind(
            "text", "in/text",
            [["train-lm", "in/text", "--model", "out/lm", "--quiet", "--max-updates", "1",
              "--embedding", "2", "--hidden", "2", "--second-hidden", "2", "--min-count", "1"],
             ["perplexity", "--model", "in/cslm", "in/text"],
             ["evaluate", "--reference", "in/text", "a=in/text", "--no-significance", "--output",
              "out/report"],
             ["prepare", "in/text", "--languages", "fr", "--output-dir", "out/p", "--quiet"]],
        ),
    )
}  # fmt: skip


def strategy_of(world: World, kind: Kind) -> st.SearchStrategy[bytes]:
    """Broken files of a kind."""
    return kind.strategy(world.valid_of(kind))
