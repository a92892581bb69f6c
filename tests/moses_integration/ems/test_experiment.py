"""A whole experiment by the real experiment.perl: its config has the lines that we give to users.

EMS trains on a part of data/ (word alignment given), our hook trains a model and rescores the
table, then EMS filters, tunes and evaluates, once with a table in text form and once binarised.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from toys import DATA

from moses_integration.cli import main

SENTENCES = 400
SECONDS = 110

# experiment.perl sleeps for 5 seconds before each of its 14 steps.
SHORT_WAITS = """\
package ShortWaits;
BEGIN { *CORE::GLOBAL::sleep = sub { select(undef, undef, undef, 0.2) } }
1;
"""

CONFIG = {
    "GENERAL": """\
working-dir = {work}
input-extension = en
output-extension = fr
pair-extension = en-fr
moses-src-dir = {scripts}
moses-bin-dir = {bin}
moses-script-dir = {scripts}
external-bin-dir = {bin}
decoder = $moses-bin-dir/moses
""",
    "CORPUS": "max-sentence-length = 80\n",
    "CORPUS:small": "clean-split-stem = {corpus}/train\n",
    "LM": "order = 4\ntype = 8\n",
    "LM:small": "lm = {lm}\n",
    "TRAINING": """\
alignment-symmetrization-method = grow-diag-final-and
word-alignment = {corpus}/aligned
lexicalized-reordering = msd-bidirectional-fe
max-phrase-length = 4
""",
    "TUNING": """\
tuning-script = $moses-script-dir/training/mert-moses.pl
tuning-settings = "-mertdir $moses-bin-dir --predictable-seeds --maximum-iterations 2"
input = {corpus}/tune.en
reference = {corpus}/tune.fr
nbest = 20
decoder-settings = "-s 20"
""",
    "EVALUATION": """\
decoder-settings = "-s 20"
multi-bleu = "$moses-script-dir/generic/multi-bleu.perl -lc"
ttable-binarizer = "$moses-bin-dir/CreateOnDiskPt 1 1 5 100 2"
""",
    "EVALUATION:test": "input = {corpus}/test.en\ntokenized-reference = {corpus}/test.fr\n",
    "REPORTING": "",
}

pytestmark = pytest.mark.moses


def installation() -> tuple[Path, Path]:
    """(programs, scripts) of Moses."""
    moses = shutil.which("moses")
    if moses is None:
        pytest.skip("Moses is not on the PATH")
    programs = Path(moses).resolve().parent
    scripts = Path(os.environ.get("MOSES_SCRIPTS") or programs.parent / "scripts")
    if not (scripts / "ems" / "experiment.perl").is_file():
        pytest.skip(f"there is no ems/experiment.perl in {scripts}; set MOSES_SCRIPTS")
    return programs, scripts


def sections(config: str) -> dict[str, str]:
    """The lines of a config by section."""
    found: dict[str, str] = defaultdict(str)
    name = ""
    for line in config.splitlines(keepends=True):
        header = re.fullmatch(r"\[(.+)\]\s*", line)
        if header:
            name = header[1]
        else:
            found[name] += line
    return found


def write_corpus(folder: Path) -> None:
    folder.mkdir()
    for name, lines in {
        "train.en": SENTENCES,
        "train.fr": SENTENCES,
        "aligned.grow-diag-final-and": SENTENCES,
        "tune.en": 20,
        "tune.fr": 20,
        "test.en": 20,
        "test.fr": 20,
    }.items():
        text = (DATA / "corpus" / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(text[:lines]))


def write_config(folder: Path, programs: Path, scripts: Path) -> Path:
    """The config of an experiment without us, and our lines in the sections of the same name."""
    assert main(["ems", "--output-dir", str(folder / "ems")]) == 0
    ours = (folder / "ems" / "config.phrase-scorer").read_text()
    short = "--max-updates 20 --batch-pairs 64 --validation-pairs 0 --threads 1"
    assert ours.count("--preset small") == 1
    ours = ours.replace("--preset small", short)
    lm = DATA / "model" / "lm.fr.arpa.gz"
    paths = {"work": folder / "work", "corpus": folder / "corpus", "lm": lm}
    text = ""
    for name, lines in CONFIG.items():
        text += f"[{name}]\n{lines.format(**paths, bin=programs, scripts=scripts)}"
        text += sections(ours)[name]
    config = folder / "config"
    config.write_text(text)
    return config


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of an experiment that EMS has run."""
    programs, scripts = installation()
    folder = tmp_path_factory.mktemp("ems")
    write_corpus(folder / "corpus")
    config = write_config(folder, programs, scripts)
    (folder / "work" / "model").mkdir(parents=True)
    (folder / "ShortWaits.pm").write_text(SHORT_WAITS)
    command = ["perl", "-I", folder, "-MShortWaits", scripts / "ems" / "experiment.perl"]
    command += ["-config", config, "-exec", "-no-graph"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C"},
        )  # fmt: skip
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    said = (folder / "log").read_text()
    assert process.returncode == 0, said
    assert "crashed" not in said, said
    return folder / "work"


def weights(ini: Path) -> list[float]:
    found = re.search(r"(?m)^TranslationModel0= (.+)$", ini.read_text())
    assert found
    return [float(weight) for weight in found[1].split()]


def test_the_hook_made_a_model_and_a_column(experiment):
    assert (experiment / "model" / "phrase-table-pruned.1.rnn" / "model.safetensors").is_file()
    with (
        gzip.open(experiment / "model" / "phrase-table.1.gz", "rt") as before,
        gzip.open(experiment / "model" / "phrase-table-pruned.1.gz", "rt") as after,
    ):
        entries = 0
        for old, new in zip(before, after, strict=True):
            source, target, scores, *rest = new.split(" ||| ")
            shorter = " ".join(scores.split()[:-1])
            assert [source, target, shorter, *rest] == old.split(" ||| ")
            entries += 1
    assert entries > 1000


def test_the_new_weight_is_tuned(experiment):
    assert weights(experiment / "model" / "moses.ini.1") == [0.2, 0.2, 0.2, 0.2, 0.1]
    tuned = weights(experiment / "tuning" / "moses.tuned.ini.1")
    assert len(tuned) == 5
    assert tuned != [0.2, 0.2, 0.2, 0.2, 0.1]
    assert "num-features=5" in (experiment / "tuning" / "moses.tuned.ini.1").read_text()
    assert len(weights(experiment / "tuning" / "tmp.1" / "features.list")) == 5


def test_filtered_tables_have_the_column(experiment):
    (table,) = (experiment / "tuning" / "filtered.1").glob("phrase-table*.gz")
    with gzip.open(table, "rt") as lines:
        counts = {len(line.split(" ||| ")[2].split()) for line in lines}
    assert counts == {5}
    (noted,) = (experiment / "evaluation" / "test.filtered.1").glob("phrase-table*/Misc.dat")
    assert "NumScores 5" in noted.read_text().splitlines()


def test_the_experiment_ends_with_bleu(experiment):
    bleu = re.match(r"BLEU = ([\d.]+),", (experiment / "evaluation/test.multi-bleu.1").read_text())
    assert bleu
    assert 5 < float(bleu[1]) <= 100
    output = (experiment / "evaluation" / "test.output.1").read_text()
    assert len(output.splitlines()) == 20
    assert "BLEU" in (experiment / "evaluation" / "report.1").read_text()
