"""Inputs that are pipes, `<(zcat table.gz)` say: read as files are, or refused before any work."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest
from toys import DATA, GOLDEN, PLAIN, TOY_LINES, TOY_TABLE, save_model, toy_lines

TABLE = b"".join(line + b"\n" for line in toy_lines(300))
NBEST = (GOLDEN / "nbest" / "plain").read_bytes()
SOURCE = (GOLDEN / "nbest" / "source.en").read_bytes()
WEIGHTS = (DATA / "moses.ini").read_bytes()
TEXT = b"".join(line.split(b" ||| ")[1] + b"\n" for line in TOY_LINES) * 40

# What a command reads from its first placeholder; further files are made by the test.
READS = {
    "rescore": (TABLE, "rescore {} out --model {model} --quiet"),
    "rescore in int8": (TABLE, "rescore {} out --model {model} --precision int8 --quiet"),
    "rescore to stdout": (TABLE, "rescore {} - --model {model} --precision bfloat16 --quiet"),
    "score": (TABLE, "score {} --model {model} --output out"),
    "score in int8": (TABLE, "score {} --model {model} --precision int8 --output out"),
    "align": (TABLE, "align {} --model {attention} --output out"),
    "vectors": (TEXT, "vectors {} --model {model} --output out"),
    "check": (TOY_TABLE, "check {}"),
    "check with an ini": (PLAIN, "check t --moses-ini {}"),
    "train": (TABLE, "train {} --model new --max-updates 1 --quiet --precision float32"),
    "train-lm": (TEXT, "train-lm {} --model new --max-updates 1 --quiet --precision float32"),
    "prepare": (TEXT, "prepare {} --languages fr --output-dir out --quiet"),
    "filter": (TEXT, "filter --moses-ini t.ini --input {} --output-dir out --quiet"),
    "evaluate": (TEXT, "evaluate --reference text a={}"),
    "evaluate, reference": (TEXT, "evaluate --reference {} a=text"),
    "nbest": (NBEST, "nbest {} --source source --model {model} --output out --quiet"),
    "nbest, source": (SOURCE, "nbest list --source {} --model {model} --output out --quiet"),
    "nbest, weights": (WEIGHTS, "nbest list --rerank {} --output out"),
    "reranking": (NBEST, "nbest {} --rerank weights --output out"),
    "gradients": (TEXT, "gradients --text {} --output-dir out --cells rnn --updates 1 --quiet"),
}


@pytest.fixture(scope="module")
def attention(tmp_path_factory):
    """The directory of an attention model."""
    return save_model(tmp_path_factory.mktemp("models") / "a", architecture="attention")


@pytest.fixture
def feed():
    """Makes a FIFO and writes into it, in a thread, as soon as somebody reads."""

    def make(path: Path, content: bytes) -> None:
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()

    return make


def written(folder: Path) -> dict[str, bytes]:
    """All regular files but those that say when, or from what, they were made."""
    names = ("config.json", "training_log.jsonl", "training_state.safetensors", "gradients.json")
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b"")
        for path in folder.rglob("*")
        if path.is_file() and path.name not in names
    }


@pytest.mark.parametrize("name", READS)
def test_a_pipe_is_read_as_a_file_is(name, run, tmp_path, monkeypatch, model_path, attention, feed):
    content, command = READS[name]
    results = []
    for kind in ("file", "pipe"):
        folder = tmp_path / kind
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "t").write_bytes(TOY_TABLE)
        (folder / "t.ini").write_bytes(PLAIN.replace(b"pt.gz", b"t"))
        (folder / "text").write_bytes(TEXT)
        (folder / "list").write_bytes(NBEST)
        (folder / "source").write_bytes(SOURCE)
        (folder / "weights").write_bytes(WEIGHTS)
        if kind == "file":
            Path("input").write_bytes(content)
        else:
            feed(folder / "input", content)
        words = command.format("input", model=model_path, attention=attention)
        results.append((run(*words.split()), written(folder)))
        Path("input").unlink()
    (by_file, files), (by_pipe, through_pipe) = results
    assert by_file.code == 0, by_file.err
    assert by_pipe == by_file
    files.pop("input")
    assert through_pipe == files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_estimate_of_a_pipe(pack, run, folder, model_path, feed):
    feed(folder / "pipe", pack(TABLE))
    done = run("rescore", "pipe", "--model", model_path, "--precision", "int8", "--estimate")
    assert done.code == 0
    assert done.out.startswith("entries            300 (sample: 300)\n")


REFUSED = {
    "binarize": "binarize {} --format ondisk --output new",
    "tune, source": "tune --moses-ini t.ini --source {} --reference text --working-dir w",
    "tune, reference": "tune --moses-ini t.ini --source text --reference {} --working-dir w",
    "tune, list": "tune --moses-ini t.ini --rescore-nbest {} --reference text --working-dir w",
    "ini": "ini t.ini --language-model {} --output new.ini",
    "perplexity": "perplexity text --model m --arpa {}",
    "nbest": "nbest list --source text --lm {} --output out",
    "export-arpa": "export-arpa --model m --arpa {} --output o --moses-ini i --moses-ini-out j",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_read_twice_cannot_be_a_pipe(name, run, folder):
    os.mkfifo("pipe")
    (folder / "t.ini").write_bytes(PLAIN)
    (folder / "text").write_bytes(TEXT)
    done = run(*REFUSED[name].format("pipe").split())
    assert (done.code, done.out) == (2, "")
    assert done.error == "pipe is read more than once: give a file, not a pipe"
    assert sorted(os.listdir(folder)) == ["pipe", "t.ini", "text"]
