"""The documentation is run: each block of commands of a page, as it stands, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from toys import DATA, ROOT, save_model

from moses_integration.cli import main

README, GUIDE, CLUSTERS = (
    ROOT / name for name in ("README.md", "docs/guide.md", "docs/clusters.md")
)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUNS_MOSES = re.compile(r"phrase-scorer (tune|decode)\b")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder but for data/; `phrase-scorer` beside it is that of this checkout."""
    programs, place = tmp_path / "bin", tmp_path / "place"
    programs.mkdir()
    place.mkdir()
    (place / "data").symlink_to(DATA)
    program = programs / "phrase-scorer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moses_integration "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return place


def run_page(page: Path, place: Path, *, with_moses: bool) -> str:
    """Runs the blocks of a page in their order; what they print."""
    said = []
    path = f"{place.parent / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for language, text in BLOCK.findall(page.read_text()):
        if RUNS_MOSES.search(text) and not with_moses:
            continue
        start = ["bash", "-euo", "pipefail"] if language == "sh" else [sys.executable]
        ran = subprocess.run(
            [*start, "-c", text], cwd=place, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
        said.append(ran.stdout + ran.stderr)
    return "".join(said)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_guide(place):
    said = run_page(GUIDE, place, with_moses=False)
    assert "60,507 entries with 4 scores; 0 errors" in said
    assert {"rnn", "filtered.rnn", "small.gz", "stripped.gz"} <= {p.name for p in place.iterdir()}
    before, after = re.findall(r"^.*\|\|\|.*$", said, re.MULTILINE)[0:8:4]
    fields, scored = before.split(" ||| "), after.split(" ||| ")
    assert scored[2].split()[:-1] == fields[2].split()
    assert scored[3:] == fields[3:]


@pytest.mark.slow
def test_the_page_of_python(place):
    said = run_page(ROOT / "docs" / "api.md", place, with_moses=False)
    assert "<PhraseScorer forward: encoder_decoder of 256 units" in said
    assert re.search(r"^60507 \d+$", said, re.MULTILINE)
    assert {"small", "scored.gz", "scored.ini"} <= {path.name for path in place.iterdir()}


@pytest.mark.moses
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("page", "translation", "compared"),
    [
        (README, "tuned.fr", "Sentences, against untuned"),
        (GUIDE, "rnn.fr", "Sentences, against base"),
    ],
    ids=["README", "guide"],
)
def test_a_page_ends_in_a_translation(page, translation, compared, place):
    if shutil.which("moses") is None:
        pytest.skip("moses is not on PATH")
    said = run_page(page, place, with_moses=True)
    assert len((place / translation).read_text().splitlines()) == 250
    assert compared in said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_of_clusters(place):
    """Parts that were scored by themselves, joined, are the table scored in one run."""
    words = {
        side: sorted({word.encode() for word in (DATA / "corpus" / side).read_text().split()})
        for side in ("train.en", "train.fr")
    }
    save_model(place / "rnn", words["train.en"], words["train.fr"])
    said = run_page(CLUSTERS, place, with_moses=False)
    assert "60,507 entries with 5 scores; 0 errors" in said
    table, whole = DATA / "model" / "phrase-table.gz", place / "whole.gz"
    assert main(["rescore", str(table), str(whole), "--model", str(place / "rnn"), "--quiet"]) == 0
    assert (place / "phrase-table.rnn.gz").read_bytes() == whole.read_bytes()
    assert not list(place.glob("*.part*"))


def test_every_page_is_in_the_contents():
    contents = (ROOT / "docs" / "index.md").read_text().split("\n")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages - {"commands"} <= set(contents)  # commands.md is generated


def test_links_lead_somewhere():
    """Of README and CONTRIBUTING, which are no part of docs/ and not seen by `make docs`."""
    for page in (README, ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)
