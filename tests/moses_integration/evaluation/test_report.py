"""Reports by hand-written tables; examples and plots by what they are given."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from matplotlib.figure import Figure

from moses_integration.evaluation import report as evaluation_report
from moses_integration.evaluation.evaluation import (
    Comparison,
    Evaluation,
    EvaluationSettings,
    Lengths,
    MetricScore,
    ScoredSystem,
    evaluate,
)
from moses_integration.evaluation.report import (
    differences_picture,
    examples,
    report_json,
    report_markdown,
    report_text,
)
from moses_integration.evaluation.significance import METRICS
from phrase_scorer.errors import DataError, UsageError
from phrase_scorer.runtime.figures import save_picture

COMPARISON = Comparison(1.254, (-0.5, 3.0), 0.03456, 1e-5, (3.0, 0.0, -1.0), 1, 1)
EVALUATION = Evaluation(
    EvaluationSettings(),
    1234,
    1,
    {metric: f"nrefs:1|of:{metric}" for metric in METRICS},
    (
        ScoredSystem(
            "base",
            {metric: MetricScore((20.0,), (18.126, 22.0), None) for metric in METRICS},
            Lengths(10.0, 12.5, 3),
        ),
        ScoredSystem(
            "r_n|n",
            {metric: MetricScore((20.5, 22.0), (19.0, 23.0), COMPARISON) for metric in METRICS},
            Lengths(13.0, 12.5, 0),
        ),
    ),
)

TEXT = """\
1,234 sentences; 1 reference; baseline: base; 1,000 samples, seed 12345

BLEU
system          score  s.d.            95 %  difference            95 %  p bootstrap  p random.
base            20.00     -  [18.13, 22.00]           -               -            -          -
r_n|n (2 runs)  21.25  1.06  [19.00, 23.00]       +1.25  [-0.50, +3.00]       0.0346    1.0e-05
  run 1         20.50
  run 2         22.00
signature: nrefs:1|of:BLEU
"""

TAIL = """\
Lengths (tokenizer none)
system  words/sentence  reference  ratio  empty lines
base             10.00      12.50  0.800            3
r_n|n            13.00      12.50  1.040            0

Sentences, against base
system  metric  better  worse  equal  mean difference
r_n|n   BLEU         1      1      1            +0.67
r_n|n   chrF2        1      1      1            +0.67
r_n|n   TER          1      1      1            +0.67

p-values are of the means over the runs: how sure the sentences make a difference, not
how tuning would fall out another time; for that, see the standard deviations.
"""

MARKDOWN = r"""### BLEU

| system | score | s.d. | 95 % | difference | 95 % | p bootstrap | p random. |
| :-- | --: | --: | --: | --: | --: | --: | --: |
| base | 20.00 | - | \[18.13, 22.00\] | - | - | - | - |
| r\_n\|n (2 runs) | 21.25 | 1.06 | \[19.00, 23.00\] | +1.25 | \[-0.50, +3.00\] | 0.0346 | 1.0e-05 |
|   run 1 | 20.50 |  |  |  |  |  |  |
|   run 2 | 22.00 |  |  |  |  |  |  |

signature: nrefs:1\|of:BLEU
"""

REFERENCE = ["a b c d", "e f g h", "i j k l"]
SOURCE = ["A B", "E F", "I J"]
SYSTEMS = {
    "base": [["a b x x", "e f g h", "i j k l"]],
    "new": [["a b c d", "e f g h", "x j k l"], ["a b c d", "e f g h", "i x y z"]],
}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate([REFERENCE], SYSTEMS, settings=EvaluationSettings(samples=20))


# -- text, Markdown, JSON --------------------------------------------------------------------------


def test_text():
    text = report_text(EVALUATION)
    assert text.startswith(TEXT)
    assert text.endswith("\n\n" + TAIL)
    assert "\n\nTER (lower is better)\nsystem " in text


def test_markdown():
    report = report_markdown(EVALUATION)
    assert MARKDOWN in report
    lines = report.splitlines()
    assert lines[0] == "1,234 sentences; 1 reference; baseline: base; 1,000 samples, seed 12345"
    for before, after in itertools.pairwise(lines):
        if before.startswith("|") and after.startswith("|"):
            bars = [line.replace(r"\|", "").count("|") for line in (before, after)]
            assert bars[0] == bars[1]
    assert "| r\\_n\\|n | TER | 1 | 1 | 1 | +0.67 |" in lines


def test_a_baseline_alone_without_significance():
    alone = evaluate(
        [REFERENCE, REFERENCE],
        {"base": SYSTEMS["base"]},
        settings=EvaluationSettings(significance=False, detokenize="fr"),
    )
    text = report_text(alone)
    assert text.startswith(
        "3 sentences; 2 references; baseline: base; detokenised (fr)\n\nBLEU\nsystem  score\nbase  "
    )
    assert "Sentences" not in text
    assert "p random." not in text


def test_a_ratio_that_is_none():
    empty = evaluate([[""]], {"base": [["a"]]}, settings=EvaluationSettings(samples=2))
    assert "base              1.00       0.00      -            0\n" in report_text(empty)


def test_json_has_all_numbers(evaluation):
    content = json.loads(report_json(evaluation))
    version = content.pop("phrase_scorer")
    assert version
    assert content == json.loads(json.dumps(evaluation.as_dict()))


# -- examples --------------------------------------------------------------------------------------


def test_examples_are_the_largest_gains_and_losses(evaluation):
    found = examples(evaluation, SOURCE, [REFERENCE], SYSTEMS)
    assert [(example.system, example.sentence) for example in found] == [("new", 1), ("new", 3)]
    gain, loss = found
    assert gain.difference > 0 > loss.difference
    assert loss == evaluation_report.Example(
        "new",
        3,
        evaluation.systems[1].scores["chrF2"].comparison.sentences[2],
        "I J",
        "i j k l",
        (("base", "i j k l"), ("new, run 1", "x j k l"), ("new, run 2", "i x y z")),
    )


def test_examples_are_no_more_than_asked_for():
    count = 20
    truth = ["a b c d e"] * count
    graded = [" ".join("abcde"[: 1 + place % 5]) for place in range(count)]
    systems = {"base": [["a b c"] * count], "new": [graded]}
    settings = EvaluationSettings(significance=False)
    evaluation = evaluate([truth], systems, settings=settings)
    found = examples(evaluation, truth, [truth], systems, count=2)
    assert [graded[example.sentence - 1] for example in found] == [
        "a b c d e", "a b c d e", "a", "a"
    ]  # fmt: skip


def test_examples_in_the_reports(evaluation):
    found = examples(evaluation, SOURCE, [REFERENCE], SYSTEMS)
    difference = f"{found[1].difference:+.2f}"
    assert report_text(evaluation, found).endswith(
        f"""
new, sentence 3: {difference}
  source      I J
  reference   i j k l
  base        i j k l
  new, run 1  x j k l
  new, run 2  i x y z
"""
    )
    assert report_markdown(evaluation, found).endswith(
        f"""
**new, sentence 3: {difference}**

- source: I J
- reference: i j k l
- base: i j k l
- new, run 1: x j k l
- new, run 2: i x y z
"""
    )
    shown = json.loads(report_json(evaluation, found))["examples"][1]
    assert (shown["sentence"], shown["outputs"][1]) == (3, ["new, run 1", "x j k l"])


def test_a_source_of_another_length(evaluation):
    with pytest.raises(DataError) as error:
        examples(evaluation, ["A"], [REFERENCE], SYSTEMS)
    assert str(error.value) == "the source has 1 lines, but the reference has 3"


# -- plots -----------------------------------------------------------------------------------------


def test_names_that_matplotlib_cannot_draw_or_would_take_for_formulae(tmp_path):
    systems = {"a": [["x"]], r"$\frac$ 翻訳": [["y"]]}
    settings = EvaluationSettings(significance=False)
    evaluation = evaluate([["x"]], systems, settings=settings)
    save_picture(differences_picture(evaluation), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").exists()


def test_a_panel_shows_the_sentences_that_differ_their_mean_and_counts():
    axes = Figure().subplots()
    comparison = Comparison(0.0, None, None, None, (-1.0, 4.0, 0.0), 1, 1)
    said = evaluation_report._draw(axes, "new", "BLEU", comparison, "base")
    assert said == "new less base, BLEU: 1 better, 1 worse, 1 equal (33 %), mean of all 3: +1.00"
    assert axes.get_title() == "new less base, BLEU\n1 better, 1 worse; 1 equal (33 %), not drawn"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean of all 3: +1.00"]
    gains, losses = (drawn.get_data() for drawn in axes.patches)
    assert (gains.values.tolist(), losses.values.tolist()) == ([4.0, 0.0], [0.0, -1.0])
    assert gains.edges.tolist() == losses.edges.tolist() == [0.5, 1.5, 2.5]
    zero, mean = axes.lines
    assert zero.get_ydata() == [0.0, 0.0]
    assert all(math.isclose(value, 1.0) for value in mean.get_ydata())


def test_panels_share_a_scale_that_does_not_end_where_nothing_differs(evaluation):
    panels = differences_picture(evaluation).figure.axes
    assert len({axes.get_ylim() for axes in panels}) == 1
    settings = EvaluationSettings(significance=False)
    equal = evaluate([["x"]], {"a": [["y"]], "b": [["y"]]}, settings=settings)
    for axes in differences_picture(equal).figure.axes:
        assert axes.get_title(loc="left").endswith(
            "\n0 better, 0 worse; 1 equal (100 %), not drawn"
        )
        assert axes.get_ylim() == (-1.0, 1.0)
        assert not axes.get_xticks().size


def test_a_plot_of_a_baseline_alone():
    settings = EvaluationSettings(significance=False)
    alone = evaluate([REFERENCE], {"base": SYSTEMS["base"]}, settings=settings)
    with pytest.raises(UsageError) as error:
        differences_picture(alone)
    assert str(error.value) == "a plot of differences needs a system beside the baseline"


def test_a_plot_where_nothing_can_be_written(evaluation, tmp_path):
    path = tmp_path / "none" / "plot.svg"
    with pytest.raises(DataError) as error:
        save_picture(differences_picture(evaluation), path)
    assert str(error.value) == f"{path}: cannot write: No such file or directory"
