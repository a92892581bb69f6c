"""A table is trained on, rescored and decoded: what was there stays, the new score is used.

Through the command line; the last tests run the real Moses where it is installed.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from moses_integration.cli import main
from phrase_scorer.scoring.scorer import PhraseScorer

TABLE = """\
chat ||| cat ||| 0.8 0.7 ||| 0-0 ||| 4 4 4
chat ||| the cat ||| 0.2 0.1 ||| 0-1 ||| 2 4 1
chat noir ||| black cat ||| 1 0.5 ||| 0-1 1-0 ||| 2 2 2
la maison ||| house ||| 0.5 0.2 ||| 1-0 ||| 2 4 1
la maison ||| the house ||| 0.9 0.6 ||| 0-0 1-1 ||| 4 4 3
la ||| ||| 0.1 0.1 ||| ||| 9 9 1
la ||| it ||| 0.2 0.1 ||| 0-0 ||| 9 9 2
la ||| the ||| 0.7 0.8 ||| 0-0 ||| 9 9 6
le chat ||| the cat ||| 0.9 0.7 ||| 0-0 1-1 ||| 4 4 4 ||| |||
le ||| him ||| 0.1 0.1 ||| 0-0 ||| 8 8 1
le ||| the ||| 0.9 0.8 ||| 0-0 ||| 8 8 7
maison bleue ||| blue house ||| 0.9 0.6 ||| 0-1 1-0 ||| 2 2 2
maison ||| home ||| 0.3 0.4 ||| 0-0 ||| 5 5 2
maison ||| house ||| 0.7 0.6 ||| 0-0 ||| 5 5 3
bleue ||| blue ||| 1 1 ||| 0-0 ||| 2 2 2
noir ||| black ||| 1 1 ||| 0-0 ||| 2 2 2
"""

INI = """\
# a comment that stays
[input-factors]
0

[mapping]
0 T 0

[distortion-limit]
6

[feature]
UnknownWordPenalty
WordPenalty
PhrasePenalty
PhraseDictionaryMemory name=TranslationModel0 num-features=2 path={table} input-factor=0 output-factor=0
Distortion
KENLM name=LM0 factor=0 path={lm} order=2

[weight]
UnknownWordPenalty0= 1
WordPenalty0= -1
PhrasePenalty0= 0.2
TranslationModel0= 0.2 0.3
Distortion0= 0.3
LM0= 0.5
"""  # noqa: E501 - one line is one feature

LM = """\
\\data\\
ngram 1=10
ngram 2=6

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-2.0\t<unk>
-0.7\tthe\t-0.2
-1.2\tcat\t-0.2
-1.3\thouse\t-0.2
-1.6\thome\t-0.2
-1.4\tblue\t-0.2
-1.4\tblack\t-0.2
-1.8\tit\t-0.2

\\2-grams:
-0.4\t<s> the
-0.6\tthe cat
-0.6\tthe house
-0.5\tblue house
-0.5\tblack cat
-0.8\tcat </s>

\\end\\
"""

INPUT = "la maison bleue\nle chat noir\nla maison\n"
SETTINGS = ["--max-updates", "40", "--batch-pairs", "16", "--validation-pairs", "0", "--quiet"]

needs_moses = pytest.mark.skipif(shutil.which("moses") is None, reason="Moses is not on the PATH")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything, the table rescored with start weights 0 and 0.5."""
    folder = tmp_path_factory.mktemp("end_to_end")
    table, model = folder / "table", folder / "rnn"
    table.write_text(TABLE)
    (folder / "lm.arpa").write_text(LM)
    (folder / "moses.ini").write_text(INI.format(table=table, lm=folder / "lm.arpa"))
    assert main(["train", str(table), "--model", str(model), *SETTINGS]) == 0
    for weight in ("0", "0.5"):
        output, ini = folder / f"table.{weight}.gz", folder / f"moses.{weight}.ini"
        arguments = [str(table), str(output), "--model", str(model), "--quiet"]
        arguments += ["--moses-ini", str(folder / "moses.ini"), "--moses-ini-out", str(ini)]
        assert main(["rescore", *arguments, "--weight", weight]) == 0
    return folder


def unpacked(path: Path) -> str:
    """By a program that is not ours."""
    return subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout.decode()


def test_stripped_table_is_the_input(folder):
    scored = unpacked(folder / "table.0.gz")
    stripped = re.sub(r"(?m)^((?:[^|\n]*\|\|\|){2} \S+ \S+) \S+", r"\1", scored)
    assert stripped == TABLE
    assert scored != TABLE


def test_scores_are_the_scorers(folder):
    lines = [line.split("|||") for line in unpacked(folder / "table.0.gz").splitlines()]
    found = [math.log(float(fields[2].split()[2])) for fields in lines]
    scorer = PhraseScorer.load(folder / "rnn", "cpu")
    expected = scorer.score([(fields[0], fields[1]) for fields in lines])
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_training_learned_something(folder):
    """Below the loss of a model that knows nothing: ln(words of the target side)."""
    scorer = PhraseScorer.load(folder / "rnn", "cpu")
    pairs = [
        tuple(line.split(" ||| ")[:2]) for line in TABLE.splitlines() if " ||| ||| " not in line
    ]
    symbols = sum(len(target.split()) + 1 for _, target in pairs)
    loss = -float(scorer.score(pairs).sum()) / symbols
    assert loss < 0.8 * math.log(len(scorer.target_vocabulary))


def test_runs_repeat_byte_for_byte(folder):
    one, other = ((folder / f"table.{weight}.gz").read_bytes() for weight in ("0", "0.5"))
    assert one == other


def test_new_ini_changes_what_it_must(folder):
    expected = INI.format(table=folder / "table.0.5.gz", lm=folder / "lm.arpa")
    expected = expected.replace("num-features=2", "num-features=3").replace(
        "0.2 0.3", "0.2 0.3 0.5"
    )
    assert (folder / "moses.0.5.ini").read_text() == expected


def test_rescored_table_is_clean(folder, capsys):
    table, ini = str(folder / "table.0.gz"), str(folder / "moses.0.ini")
    code = main(["check", table, "--moses-ini", ini])
    said = capsys.readouterr().out.splitlines()[-1]
    assert (code, said) == (0, f"{table}: 16 entries with 3 scores; 0 errors, 1 warnings")


# -- the real Moses --------------------------------------------------------------------------------


def n_best(ini: Path) -> list[dict[str, str]]:
    """100-best lists: sentence, hypothesis, features, total, segmentation."""
    output = ini.with_suffix(".nbest")
    command = ["moses", "-f", ini, "-v", "0", "-n-best-list", output, "100", "distinct"]
    command += ["-include-segmentation-in-n-best", "-threads", "1"]
    subprocess.run(command, input=INPUT.encode(), capture_output=True, check=True, timeout=60)
    names = ("sentence", "hypothesis", "features", "total", "segmentation")
    lines = output.read_text().splitlines()
    return [dict(zip(names, line.split(" ||| "), strict=True)) for line in lines]


def translation_scores(entry: dict[str, str]) -> list[float]:
    found = re.search(r"TranslationModel0= ([-\d.e ]+)", entry["features"])
    assert found
    return [float(number) for number in found[1].split()]


@needs_moses
def test_weight_zero_changes_nothing_in_moses(folder):
    before, after = n_best(folder / "moses.ini"), n_best(folder / "moses.0.ini")
    assert len(before) > 30
    assert {entry["sentence"] for entry in before} == {"0", "1", "2"}
    for old, new in zip(before, after, strict=True):
        *kept, _ = translation_scores(new)
        assert kept == translation_scores(old)
        for name in ("sentence", "hypothesis", "total", "segmentation"):
            assert new[name] == old[name]


@needs_moses
def test_moses_runs_in_the_folder_of_the_new_ini(folder, monkeypatch):
    """Relative paths of the old moses.ini, which stands elsewhere, are rewritten for it."""
    monkeypatch.chdir(folder)
    relative = (folder / "moses.ini").read_text().replace(f"{folder}/", "../")
    for name in ("old", "new"):
        (folder / name).mkdir()
    (folder / "old" / "moses.ini").write_text(relative)
    arguments = ["table", "new/table.gz", "--model", "rnn", "--quiet", "--weight", "0.5"]
    arguments += ["--moses-ini", "old/moses.ini", "--moses-ini-out", "new/moses.ini"]
    assert main(["rescore", *arguments]) == 0
    expected = n_best(folder / "moses.0.5.ini")
    monkeypatch.chdir(folder / "new")
    assert n_best(folder / "new" / "moses.ini") == expected


@needs_moses
def test_moses_reads_the_log_probability(folder):
    """The new feature of a translation is the sum of ln p over the phrases it is made of."""
    source = [sentence.split() for sentence in INPUT.splitlines()]
    scores = {}
    for line in unpacked(folder / "table.0.gz").splitlines():
        fields = line.split("|||")
        key = fields[0].strip(), fields[1].strip()
        scores[key] = math.log(float(fields[2].split()[2]))
    checked = 0
    for entry in n_best(folder / "moses.0.5.ini"):
        spans = [tuple(map(int, span.split("="))) for span in _spans(entry["segmentation"])]
        if len(spans) != 1:
            continue
        phrase = " ".join(source[int(entry["sentence"])])
        expected = scores[phrase, entry["hypothesis"].strip()]
        assert translation_scores(entry)[2] == pytest.approx(expected, rel=1e-5)
        checked += 1
    assert checked >= 2  # "la maison" as one phrase, in two ways


def _spans(segmentation: str) -> list[str]:
    """`0=0 1-2=1-2` as first=last of each source span."""
    spans = [part.split("=")[0] for part in segmentation.split()]
    return [f"{span.split('-')[0]}={span.split('-')[-1]}" for span in spans]


@needs_moses
def test_other_weight_changes_the_order_in_moses(folder):
    before, after = n_best(folder / "moses.ini"), n_best(folder / "moses.0.5.ini")
    assert [entry["total"] for entry in before] != [entry["total"] for entry in after]
    assert [entry["hypothesis"] for entry in before] != [entry["hypothesis"] for entry in after]
