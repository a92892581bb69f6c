"""Every picture of the project: the same bytes in every process, in every kind of file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import ROOT

from moses_integration.evaluation.evaluation import EvaluationSettings, evaluate
from moses_integration.evaluation.report import differences_picture
from moses_integration.experiment.report import Results, table1_picture
from phrase_scorer.runtime.figures import Picture, save_picture
from phrase_scorer.scoring.accuracy import Ranking
from phrase_scorer.scoring.alignment import Alignment, alignment_picture
from phrase_scorer.studies.gradients import Study, Training
from phrase_scorer.studies.report import gradients_picture, systems_picture
from phrase_scorer.studies.settings import StudySettings
from phrase_scorer.studies.systems import SystemResult

KINDS = ("png", "svg", "pdf")
REFERENCE = ["a b c d", "e f g h", "i j k l m"]
OUTPUTS = {
    "Base": [["a b x x", *REFERENCE[1:]], REFERENCE],
    "RNN $x_": [[*REFERENCE[:2], "i"], ["a b c d", "e", "i j k l"]],
}


def table1() -> Picture:
    evaluations = {test: evaluate([REFERENCE], OUTPUTS) for test in ("val", "test2016")}
    return table1_picture(Results(evaluations, dict.fromkeys(OUTPUTS, 1.0), []))


def differences() -> Picture:
    settings = EvaluationSettings(significance=False)
    return differences_picture(evaluate([REFERENCE], OUTPUTS, settings=settings))


def gradients() -> Picture:
    def norms(factor: float) -> list[float]:
        return [2.0 * factor**distance for distance in range(60)]

    cells = {
        "rnn": {"h": norms(0.3)},
        "lstm": {"h": norms(0.9), "C": [0.0, *norms(0.91)[1:]]},
        "gru": {"h": [*norms(1.1)[:-1], 0.0]},
    }
    return gradients_picture(
        Study(
            StudySettings(), {"0.7": cells, "1": cells, "2": cells}, cells,
            clipping={
                "not clipped": Training([54.0], [4.0, 2.5] * 300),
                "clipped": Training([740.0], [4.0] * 300 + [0.4] * 300),
            },
            copying={cell: {5: 1.0, 10: 1.0, 20: 0.125, 40: 0.5, 80: 0.25} for cell in cells},
        )
    )  # fmt: skip


def system(name: str, first: float | None, speed: float) -> SystemResult:
    curve = [(1.0, 2.5), (2.0, 1.5)]
    return SystemResult(name, 10, 2, 3, 2.0, 1.5, first, first, speed, 50.0, curve)


SYSTEMS = [
    system("attention", 0.513, 4579), system("Transformer", 0.509, 4838),
    system("decoder-only", 0.506, 4793), system("masked (pseudo)", 0.402, 1006),
]  # fmt: skip


def systems() -> Picture:
    return systems_picture(SYSTEMS, Ranking(0.549, 0.699), 2.0, 1)


def alignment() -> Picture:
    weights = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]], np.float32)
    return alignment_picture(
        Alignment(["la", "maison", "</s>"], ["\udce9", "</s>"], weights), -1.234
    )


PICTURES = {draw.__name__: draw for draw in (table1, differences, gradients, systems, alignment)}


def draw_all(folder: Path) -> None:
    for name, draw in PICTURES.items():
        for kind in KINDS:
            save_picture(draw(), folder / f"{name}.{kind}")


@pytest.mark.slow
def test_every_picture_has_the_same_bytes_in_every_process(tmp_path):
    """Hashes of texts, the day and the place differ from process to process."""
    here = tmp_path / "here"
    here.mkdir()
    draw_all(here)
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        script = "import sys, pathlib, test_pictures as t; t.draw_all(pathlib.Path(sys.argv[1]))"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
        settings = {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed * 9, "PYTHONPATH": path}
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)], check=True, timeout=120,
            env=os.environ | settings, cwd=tmp_path,
        )  # fmt: skip
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == len(PICTURES) * len(KINDS)
    for name in names:
        for seed in ("1", "2"):
            assert (tmp_path / seed / name).read_bytes() == (here / name).read_bytes(), name


def texts(picture: Picture) -> list[str]:
    """All that is written in a picture, from left to right."""
    from matplotlib.text import Text

    found = picture.figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [text.get_text() for text in found if text.get_text()]


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_leaves_the_canvas_and_no_two_labels_overlap(name):
    """But for ticks beyond an axis, which are not drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Annotation

    figure = PICTURES[name]().figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    boxes = []
    for axes in figure.axes:
        shown = [axes.xaxis.label, axes.yaxis.label, axes._left_title]
        shown += axes.get_legend().get_texts() if axes.get_legend() else []
        shown += [text for text in axes.texts if isinstance(text, Annotation)]
        low, high = sorted(axes.get_ylim())
        ticks = [tick for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        shown += [tick.label1 for tick in ticks if tick.label1.get_visible()]
        boxes += [(text.get_text(), text.get_window_extent()) for text in shown if text.get_text()]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for place, (text, box) in enumerate(boxes):
        for other, another in boxes[:place]:
            assert not box.overlaps(another), (text, other)


# -- what each says --------------------------------------------------------------------------------


def test_table1_says_what_its_marks_are_and_has_the_numbers():
    said = texts(table1())
    assert {"a tuning run", "the mean of a system's runs", "the mean of Base"} <= set(said)
    assert {"val (the weights were tuned on it)", "test2016"} <= set(said)
    assert {"88.80", "64.12 (-24.68)"} <= set(said)


def test_table1_has_points_of_one_width():
    spans = [np.ptp(axes.get_xlim()) for axes in table1().figure.axes]
    assert spans[0] == pytest.approx(spans[1])


def test_gradients_are_on_one_scale_with_one_legend():
    figure = gradients().figure
    norms, clipping, accuracy = figure.axes[:-2], *figure.axes[-2:]
    assert len(norms) == 4
    assert {axes.get_ylim() for axes in norms} == {(1e-12, 1e3)}
    assert len({axes.get_xlim() for axes in norms}) == 1
    assert [label.get_text() for label in norms[0].get_yticklabels()] == [
        "≤ $10^{-12}$", "$10^{-9}$", "$10^{-6}$", "$10^{-3}$", "1", "$10^{3}$",
    ]  # fmt: skip
    assert [len(part.legends) for part in figure.subfigs] == [1, 0]
    assert all(axes.get_legend() is None for axes in [*norms, accuracy])
    for axes in figure.axes:
        assert not axes.get_yminorticklabels()
    assert [text.get_text() for text in clipping.get_yticklabels()] == [
        "0.5", "0.7", "1", "1.5", "2", "3",
    ]  # fmt: skip
    assert {"rnn × 2, gradient descent", "saying the first word again"} <= set(texts(gradients()))


def test_systems_show_the_ceiling_and_that_they_are_single_runs():
    picture = systems()
    said = texts(picture)
    assert {"the counts themselves", "0.549", "0.513", "4,579"} <= set(said)
    assert (
        "single runs, each of 2 minutes of training (seed 1): no spread is known; pseudo-nats are "
        "not to be compared with nats"
    ) in said
    assert {"held-out nats a target symbol", "speed of scoring"} <= set(said)
    assert "attention: 1.500 nats, 0.513 ranked first, 4,579 entries" in picture.description


def test_systems_of_a_table_without_counts():
    unranked = [system("LSTM", None, 100.0)]
    figure = systems_picture(unranked, None, 2.0, 1).figure
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "held-out nats a target symbol", "speed of scoring",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("inverse", "read", "said"), [(False, "source", "target"), (True, "target", "source")]
)
def test_an_alignment_names_its_sides_and_its_probability(inverse, read, said):
    drawn = Alignment(["la", "</s>"], ["\x07\udce9", "</s>"], np.eye(2, dtype=np.float32), inverse)
    picture = alignment_picture(drawn, -1.234)
    axes, bar = picture.figure.axes
    assert axes.get_title(loc="left") == picture.title == f"ln p({said} | {read}) = -1.23"
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        f"{read} (read)", f"{said} (predicted)",
    )  # fmt: skip
    assert bar.get_ylabel() == "weight"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["\\x07\\xe9", "</s>"]
    assert picture.description == "Largest weights: \\x07\\xe9 to la, </s> to </s>."


# -- without matplotlib ----------------------------------------------------------------------------

COMMANDS = {
    "align": "align --model m pairs.tsv --plot a.svg",
    "evaluate": "evaluate --reference r a=x b=y --plot a.pdf",
    "gradients": "gradients --output-dir g",
    "systems": "experiment systems table --output-dir s",
    "table1": "experiment table1 --config e.toml --output-dir t",
}
CONFIG = """
moses_ini = "ini"
[tuning]
source = "val"
reference = "val"
[[test]]
name = "t"
source = "val"
reference = "val"
[[system]]
name = "Baseline"
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_broken_matplotlib_is_one_line_before_anything_is_done(name, tmp_path):
    package = tmp_path / "broken" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('libpng.so: cannot open shared object')")
    texts = {"e.toml": CONFIG, "ini": "[feature]\n", "val": "a\n", "table": "a ||| b ||| 1\n"}
    for file, text in {**texts, "pairs.tsv": "a\tb\n"}.items():
        (tmp_path / file).write_text(text)
    path = os.pathsep.join([str(package.parent), str(ROOT)])
    before = sorted(tmp_path.iterdir())
    found = subprocess.run(
        [sys.executable, "-m", "moses_integration", *COMMANDS[name].split()], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (
        1,
        "",
        "error: the package matplotlib is broken (libpng.so: cannot open shared object): pip "
        "install --force-reinstall matplotlib\n",
    )
    assert sorted(tmp_path.iterdir()) == before
