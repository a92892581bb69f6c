"""Tuning with the real mert-moses.pl: runs, resuming, what comes out and how it is shown."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu
from toys import GOLDEN as ALL_GOLDEN

from moses_integration.decoder.decoding import Decoder, DecodeRequest, NBest, translate
from moses_integration.decoder.programs import Moses, ProgramError
from moses_integration.decoder.tuning import (
    Tuner,
    TuneRequest,
    TuningResult,
    TuningRun,
    TuningSettings,
    _History,
    added_columns,
    check_tuning_set,
    weight_table,
)
from moses_integration.formats.ini_edits import with_weights
from moses_integration.formats.moses_ini import MosesIni, weights_of
from moses_integration.formats.signature import SignedColumn, write_signature
from phrase_scorer.errors import DataError, UsageError

GOLDEN = ALL_GOLDEN / "tuning"
SETTINGS = TuningSettings(runs=2, seed=3, nbest=20, max_iterations=2)


def tuner(model: Path, folder: Path, settings: TuningSettings, moses: Moses, **options: object):
    """A tuner of the rescored model, and the list of what it says."""
    said: list[str] = []
    sides = model / "tune.en", model / "tune.fr"
    request = TuneRequest(moses, model / "new" / "moses.ini", *sides, folder, settings, **options)
    return Tuner(request, said.append), said


# -- the real Moses --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(moses: Moses, moses_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """(folder, result, what was said) of two runs of MERT."""
    folder = tmp_path_factory.mktemp("tuned") / "mert"
    work, said = tuner(moses_model, folder, SETTINGS, moses)
    return folder, work.run(), said


@pytest.mark.moses
def test_two_runs(tuned):
    folder, tuning, said = tuned
    assert [(run.number, run.seed, run.iterations) for run in tuning.runs] == [(1, 3, 2), (2, 4, 2)]
    assert tuning.runs[0].weights != tuning.runs[1].weights
    for number, run in enumerate(tuning.runs, 1):
        log = (folder / f"run{number}" / "mert" / "run1.mert.log").read_text()
        assert f"Seeding random numbers with {number + 2}\n" in log
        told = (folder / f"run{number}" / "mert" / "moses.ini").read_text()
        bleu = re.search(r"# BLEU (\S+) on dev", told)
        assert bleu
        assert run.nbest_bleu == pytest.approx(100 * float(bleu[1]))
    assert re.fullmatch(r"phrase-table.gz: (\S+) of \1 entries needed", said[0])
    pattern = r"run \d, iteration \d: BLEU \d\d\.\d\d on its n-best lists \(\d+ s\)"
    assert sum(bool(re.fullmatch(pattern, line)) for line in said) == 4


@pytest.mark.moses
def test_tuned_weights(tuned, moses_model):
    """All features have them, the new column too; absolute values sum to 1, as MERT leaves them."""
    _, tuning, _ = tuned
    start = weights_of(MosesIni.read(moses_model / "new" / "moses.ini"))
    assert tuning.start_weights == start
    for run in tuning.runs:
        assert {name: len(values) for name, values in run.weights.items()} == {
            name: len(values) for name, values in start.items()
        }
        assert len(run.weights["TranslationModel0"]) == 5
        assert run.weights["TranslationModel0"][-1] != 0.1
        assert run.weights["UnknownWordPenalty0"] == (1.0,)
        total = sum(abs(v) for n, vs in run.weights.items() for v in vs if n[:3] != "Unk")
        assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.moses
def test_only_weights_change_in_the_ini(tuned, moses_model):
    folder, tuning, _ = tuned
    before = MosesIni.read(moses_model / "new" / "moses.ini")
    expected = with_weights(before, tuning.best.weights).to_bytes()  # its paths are absolute
    assert (folder / "moses.ini").read_bytes() == expected
    assert tuning.best.dev_bleu == max(run.dev_bleu for run in tuning.runs)


@pytest.mark.moses
def test_bleu_is_that_of_the_tuned_model(tuned, moses_model, moses, tmp_path):
    """Decoded again with the moses.ini that a user gets."""
    folder, tuning, _ = tuned
    source, out = str(moses_model / "tune.en"), str(tmp_path / "out")
    ini = str(folder / "moses.ini")
    log = tmp_path / "log"
    translate(DecodeRequest(ini, Decoder(moses), NBest(), source, out, log, quiet=True))
    best = folder / f"run{tuning.best.number}" / "tuning-set.output"
    assert (tmp_path / "out").read_bytes() == best.read_bytes()
    hypotheses = (tmp_path / "out").read_text().splitlines()
    references = (moses_model / "tune.fr").read_text().splitlines()
    bleu = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none").score
    assert tuning.best.dev_bleu == pytest.approx(bleu, abs=1e-9)


@pytest.mark.moses
def test_result_as_json(tuned):
    folder, tuning, _ = tuned
    content = json.loads((folder / "tuning.json").read_bytes())
    assert content == json.loads(json.dumps(tuning.as_dict()))
    assert content["best"] == tuning.best.number
    assert [run["dev_bleu"] for run in content["runs"]] == [r.dev_bleu for r in tuning.runs]


@pytest.mark.moses
def test_finished_runs_are_not_run_again(tuned, moses_model):
    folder, tuning, _ = tuned
    work, said = tuner(moses_model, folder, SETTINGS, Moses("no/such/folder"), resume=True)
    assert work.run() == tuning
    bleus = [f"run {run.number}: done before, BLEU {run.dev_bleu:.2f}" for run in tuning.runs]
    assert said == bleus


@pytest.mark.moses
def test_run_stopped_after_mert_goes_on(tuned, moses_model, moses):
    """mert-moses.pl itself cannot go on after its end."""
    folder, tuning, _ = tuned
    (folder / "run2" / "run.json").unlink()
    log = (folder / "run2" / "mert.log").read_bytes()
    work, _ = tuner(moses_model, folder, SETTINGS, moses, resume=True)
    assert work.run() == tuning
    assert (folder / "run2" / "mert.log").read_bytes() == log


@pytest.mark.moses
@pytest.mark.parametrize(
    ("changed", "sides", "what"),
    [
        ({"max_iterations": 3}, ("tune.en", "tune.fr"), "settings"),
        ({}, ("tune.en", "tune.en"), "reference"),
    ],
)
def test_another_tuning_is_not_resumed(changed, sides, what, tuned, moses_model, moses):
    folder, _, _ = tuned
    ini = moses_model / "new" / "moses.ini"
    source, reference = (moses_model / name for name in sides)
    settings = replace(SETTINGS, **changed)
    with pytest.raises(UsageError) as caught:
        Tuner(TuneRequest(moses, ini, source, reference, folder, settings, resume=True)).run()
    expected = f"{folder} holds another tuning (other {what}: see task.json); not resumed"
    assert str(caught.value) == expected


@pytest.mark.moses
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task.json", "expected object, got array"),
        ("run1/run.json", "expected object, got array"),
    ],
)
def test_notes_of_another_shape(tuned, moses_model, moses, name, message):
    folder, _, _ = tuned
    note = folder / name
    content = note.read_bytes()
    note.write_text("[]")
    work, _ = tuner(moses_model, folder, SETTINGS, moses, resume=True)
    with pytest.raises(DataError) as caught:
        work.run()
    note.write_bytes(content)
    assert str(caught.value) == f"{note}: {message}"


@pytest.mark.moses
def test_another_number_of_threads_may_go_on(tuned, moses_model, moses):
    folder, tuning, _ = tuned
    work, _ = tuner(moses_model, folder, replace(SETTINGS, threads=2), moses, resume=True)
    assert work.run() == tuning


@pytest.mark.moses
def test_new_tuning_in_an_old_folder(tuned, moses_model, moses):
    folder, _, _ = tuned
    work, _ = tuner(moses_model, folder, SETTINGS, moses)
    with pytest.raises(UsageError) as caught:
        work.run()
    expected = f"--working-dir {folder} is not empty; choose a new one, or --resume"
    assert str(caught.value) == expected


@pytest.mark.moses
def test_stopped_in_the_middle_and_resumed(moses, moses_model, tmp_path):
    command = [sys.executable, "-m", "moses_integration", "tune", "--working-dir", "work"]
    command += ["--moses-ini", moses_model / "new" / "moses.ini", "--nbest", "20"]
    command += ["--source", moses_model / "tune.en", "--reference", moses_model / "tune.fr"]
    command += ["--max-iterations", "4"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("run 1, iteration 1: "):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    mert = tmp_path / "work" / "run1" / "mert"
    step = int((mert / "finished_step.txt").read_text())
    assert 1 <= step < 4
    assert not (mert.parent / "mert.json").exists()
    done = subprocess.run(
        [*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    following = f"run 1 goes on after iteration {step}\nrun 1, iteration {step + 1}: BLEU"
    assert following in done.stderr
    result = json.loads((tmp_path / "work" / "tuning.json").read_bytes())
    assert step < result["runs"][0]["iterations"] <= 4  # it may stop early
    assert done.stdout.splitlines()[0].split() == ["weight", "before", "after"]
    assert re.search(r"(?m)^TranslationModel0 5 .* <- p\(target \| source\)$", done.stdout)


@pytest.mark.moses
def test_mira(moses, moses_model, tmp_path):
    settings = TuningSettings(optimizer="mira", nbest=20, max_iterations=2)
    work, _ = tuner(moses_model, tmp_path / "mira", settings, moses)
    tuning = work.run()
    log = (tmp_path / "mira" / "run1" / "mert.log").read_text()
    assert "kbmira -J 60 -r 1 " in log
    assert tuning.best.iterations == 2
    assert sum(map(len, tuning.best.weights.values())) == 16
    log = (tmp_path / "mira" / "run1" / "mert" / "run2.mert.log").read_text()
    best = re.findall(r"(?m)^Best BLEU = (\S+)$", log)
    assert tuning.best.nbest_bleu == pytest.approx(100 * float(best[-1]), abs=1e-3)


@pytest.mark.moses
def test_moses2(moses, moses_model, tmp_path):
    settings = TuningSettings(decoder="moses2", nbest=20, max_iterations=1, threads=2)
    work, _ = tuner(moses_model, tmp_path / "moses2", settings, moses)
    tuning = work.run()
    assert re.search(r"(?m)^# \S*/moses2 -f ", (tmp_path / "moses2/run1/decoder.log").read_text())
    assert len(tuning.best.weights["TranslationModel0"]) == 5
    assert tuning.best.dev_bleu > 20


@pytest.mark.moses
def test_decoder_that_dies_while_tuning(moses, moses_model, tmp_path):
    """The first entry of the table is well, a later one is not."""
    lines = gzip.decompress((moses_model / "new" / "phrase-table.gz").read_bytes()).splitlines()
    lines[200] = lines[200].replace(b" ||| ", b" ||| nan ", 2).replace(b" ||| nan ", b" ||| ", 1)
    (tmp_path / "phrase-table.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    text = (moses_model / "new" / "moses.ini").read_text()
    text = text.replace(f"{moses_model}/new/phrase-table.gz", "phrase-table.gz")
    (tmp_path / "moses.ini").write_text(text)
    sides = moses_model / "tune.en", moses_model / "tune.fr"
    settings = TuningSettings(nbest=5, max_iterations=1)
    with pytest.raises(ProgramError) as caught:
        request = TuneRequest(moses, tmp_path / "moses.ini", *sides, tmp_path / "work", settings)
        Tuner(request, lambda _: None).run()
    said = str(caught.value)
    assert re.match(r"mert-moses.pl failed with exit code \d+: ", said)
    assert said.endswith(f"; its log is {tmp_path}/work/run1/mert.log")
    assert "\n" not in said
    assert "Bad score nan on line 200" in (tmp_path / "work" / "run1" / "mert.log").read_text()
    assert not (tmp_path / "work" / "moses.ini").exists()


# -- what mert-moses.pl said once ------------------------------------------------------------------


def history(name: str, *, interrupted: bool) -> tuple[_History, list[str]]:
    said: list[str] = []
    read = _History(1, said.append, interrupted)
    for line in (GOLDEN / name).read_bytes().splitlines(keepends=True):
        read.read(line)
    return read, said


def test_iterations_that_mert_told():
    read, said = history("mert-moses.out", interrupted=False)
    assert (read.iterations, read.bleu) == (2, pytest.approx(81.1507))
    assert said == [
        "run 1, iteration 1: BLEU 81.51 on its n-best lists (0 s)",
        "run 1, iteration 2: BLEU 81.15 on its n-best lists (0 s)",
    ]


def test_iterations_that_mira_told():
    read, said = history("mira.out", interrupted=False)
    assert (read.iterations, read.bleu) == (1, pytest.approx(77.3395))
    assert said == ["run 1, iteration 1: BLEU 77.34 on its n-best lists (0 s)"]


def test_the_last_iteration_is_repeated_when_it_goes_on():
    _, said = history("continued.out", interrupted=True)
    assert said == [
        "run 1 goes on after iteration 1",
        "run 1, iteration 2: BLEU 80.73 on its n-best lists (0 s)",
    ]


# -- the result ------------------------------------------------------------------------------------


def test_best_mean_and_spread():
    runs = [TuningRun(n, n, 1, 0.0, bleu, 0.0, {}) for n, bleu in enumerate((30.0, 33.0, 30.0), 1)]
    tuning = TuningResult({}, runs)
    assert (tuning.best.number, tuning.mean) == (2, 31.0)
    assert tuning.spread == pytest.approx(3**0.5)  # (1 + 4 + 1) / (3 - 1)
    assert TuningResult({}, runs[:1]).spread == 0.0


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runs", "nbest", "max_iterations", "threads"])
def test_numbers_below_one(name):
    with pytest.raises(UsageError) as caught:
        TuningSettings(**{name: 0})
    assert str(caught.value) == f"--{name.replace('_', '-')} must be at least 1, not 0"


def test_settings_that_cannot_be():
    for settings, expected in (
        ({"optimizer": "pro"}, "unknown optimizer pro; choose mert or mira"),
        ({"decoder_flags": "'"}, '--decoder-flags: No closing quotation: "\'"'),
    ):
        with pytest.raises(UsageError) as caught:
            TuningSettings(**settings)
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("source", "reference", "expected"),
    [
        (b"", b"", "s: the tuning set is empty"),
        (b"a\nb\n", b"a\nb\nc\n", "r: 3 lines, but s has 2"),
        (b"a", b"", "r: 0 lines, but s has 1"),
        (gzip.compress(b"a", mtime=0), b"a", "s: mert-moses.pl wants plain text, not gz"),
        (b"a", gzip.compress(b"a", mtime=0), "r: mert-moses.pl wants plain text, not gz"),
        (b"a", bz2.compress(b"a"), "r: mert-moses.pl wants plain text, not bz2"),
        (b"a", None, "r: cannot read: No such file or directory"),
    ],
)
def test_what_is_no_tuning_set(source, reference, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("s", source), ("r", reference)):
        if content is not None:
            Path(name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        check_tuning_set(Path("s"), Path("r"))
    assert str(caught.value) == expected


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with one table and a tuning set, `s` and `r`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("pt").write_text("a ||| b ||| 1 1\n")
    Path("s").write_text("a\n")
    Path("r").write_text("b\n")
    lines = "PhraseDictionaryMemory name=TM0 num-features=2 path=pt\n[weight]\nTM0= 1 1\n"
    Path("moses.ini").write_text(f"[feature]\n{lines}")


def request(folder: str, source: str = "s", reference: str = "r", **options: object) -> TuneRequest:
    sides = Path(source), Path(reference)
    return TuneRequest(
        Moses("none"), "moses.ini", *sides, Path(folder), TuningSettings(), **options
    )


def refused(folder: str, *, kind: type = UsageError, resume: bool = False) -> str:
    with pytest.raises(kind) as caught:
        Tuner(request(folder, resume=resume), lambda _: None).run()
    return str(caught.value)


def test_paths_that_the_script_cannot_use(small, tmp_path):
    why = "mert-moses.pl cannot use a path with blanks, or what means something to a shell"
    for name in ("a b", "it's", "a;b", "$x"):
        assert refused(name) == f'{why}: "{tmp_path}/{name}"'
        assert not Path(name).exists()
    Path("a b").mkdir()
    for source, reference in (("a b/s", "r"), ("s", "a b/r")):
        with pytest.raises(UsageError) as caught:
            request("w", source, reference)
        assert str(caught.value).startswith(f'{why}: "{tmp_path}/a b/')


def test_folder_in_use_by_another_process(small, tmp_path):
    code = (
        "import fcntl, sys; lock = open('work/.lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    Path("work").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        expected = f"another process is tuning in {tmp_path}/work"
        assert refused("work") == refused("work", resume=True) == expected
        holder.communicate()
    assert "another process" not in refused("work")


def test_folder_that_cannot_be(small, tmp_path):
    assert refused("a/b") == f"cannot work in {tmp_path}/a/b: No such file or directory"
    assert refused("pt") == f"cannot work in {tmp_path}/pt: File exists"


@pytest.mark.parametrize("resume", [False, True])
def test_folder_that_holds_something_else(resume, small, tmp_path):
    Path("work").mkdir()
    Path("work/mine").touch()
    expected = f"--working-dir {tmp_path}/work is not empty and holds no tuning; choose a new one"
    assert refused("work", resume=resume) == expected


def test_the_folder_is_free_after_an_error(small):
    """The lock goes with the run, not with the process."""
    first = refused("work")
    assert first == "the Moses program moses is not in none; give --moses-bin DIR"
    assert refused("work", resume=True) == first


def test_the_model_is_checked_first(small):
    Path("pt").write_text("a ||| b ||| 1 1 1\n")
    line = "PhraseDictionaryMemory name=TM0 num-features=2 path=pt"
    expected = f'moses.ini:2: num-features is 2 but the phrase table has 3 scores: "{line}"'
    assert refused("work", kind=DataError) == expected
    assert not Path("work").exists()


# -- weights before and after as a user reads them -------------------------------------------------


def test_table_worked_by_hand():
    """Those before are shown with absolute values that sum to 1: 0.5 + 0.3 + 0.2 + 1 = 2."""
    before = {"LM0": (0.5,), "TM0": (-0.3, 0.2), "New0": (1.0,), "UnknownWordPenalty0": (1.0,)}
    after = {"LM0": (0.25,), "TM0": (0.125, -0.5), "New0": (0.125,), "UnknownWordPenalty0": (1.0,)}
    assert list(weight_table(before, after, {("TM0", 1): "p(target | source)"})) == [
        "weight                  before    after",
        "LM0                     0.2500   0.2500",
        "TM0 1                  -0.1500   0.1250",
        "TM0 2                   0.1000  -0.5000  <- p(target | source)",
        "New0                    0.5000   0.1250",
        "UnknownWordPenalty0     1.0000   1.0000",
    ]


def test_weights_that_there_were_none_of():
    assert list(weight_table({"A0": (2.0,)}, {"A0": (0.5, 0.25), "B0": (0.25,)}, {})) == [
        "weight   before    after",
        "A0 1     1.0000   0.5000",
        "A0 2     0.0000   0.2500",
        "B0       0.0000   0.2500",
    ]


def test_no_weights():
    assert list(weight_table({}, {}, {})) == ["weight   before    after"]


def test_weights_that_mert_found_sum_to_one():
    after = weights_of(MosesIni.read(GOLDEN / "mert-moses.ini"))
    before = {name: tuple(2.0 for _ in values) for name, values in after.items()}
    before["UnknownWordPenalty0"] = (1.0,)
    rows = [line.split() for line in weight_table(before, after, {})][1:]
    assert len(rows) == 15
    for column in (-2, -1):
        total = sum(abs(float(row[column])) for row in rows if row[0] != "UnknownWordPenalty0")
        assert total == pytest.approx(1, abs=1e-3)


def test_columns_that_we_added(tmp_path):
    names = ["p(target | source)", "unknown target words"]
    signed = [SignedColumn(place, name, "m", -50.0) for place, name in enumerate(names, 4)]
    (tmp_path / "pt.gz").touch()
    write_signature(tmp_path / "pt.gz", signed, {})
    (tmp_path / "plain").touch()
    ini = MosesIni.parse(
        b"[feature]\nPhraseDictionaryMemory name=TM0 num-features=6 path=pt\n"
        b"PhraseDictionaryMemory name=TM1 num-features=4 path=plain\n",
        tmp_path / "moses.ini",
    )
    assert added_columns(ini) == {("TM0", 4): names[0], ("TM0", 5): names[1]}


def test_table_that_is_not_there(tmp_path):
    ini = MosesIni.parse(b"[feature]\nPhraseDictionaryMemory path=no\n", tmp_path / "moses.ini")
    with pytest.raises(DataError) as caught:
        added_columns(ini)
    line = '"PhraseDictionaryMemory path=no"'
    expected = f"{tmp_path}/moses.ini:2: the file of this line is not there: {line}"
    assert str(caught.value) == expected
