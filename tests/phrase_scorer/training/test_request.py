"""`train` in one call: the same model as the command's, from files and from a program's pairs."""

from __future__ import annotations

import pytest

from phrase_scorer import Choices, DataError, PhraseScorer, UsageError, train
from phrase_scorer.text.pair_files import PairFiles, read_pairs

PAIRS = [
    (f"{source} {word}", f"{target} {word}")
    for source, target in (("la maison", "the house"), ("le chat", "the cat"), ("la", "the"))
    for word in ("bleue", "noir", "x", "y z")
]
SMALL = Choices(
    hidden=8, embedding=6, max_updates=4, validation_pairs=2, batch_pairs=4, precision="float32"
)


def weights(model: str) -> bytes:
    with open(f"{model}/model.safetensors", "rb") as file:
        return file.read()


@pytest.fixture
def files(folder) -> None:
    (folder / "a|b`c").touch()
    (folder / "p").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    (folder / "s").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    (folder / "t").write_text("".join(f"{target}\n" for _, target in PAIRS))


@pytest.mark.usefixtures("files")
def test_files_and_pairs_and_the_command_train_the_same_model(run):
    how = {"choices": SMALL, "device": "cpu", "shortlist": 10}
    result = train("p", "one", **how)
    assert (result.stopped, result.progress.update) == ("updates", 4)
    train(("s", "t"), "two", **how)
    train(iter(PAIRS), "three", **how)
    train([(source.split(), target.split()) for source, target in PAIRS], "four", **how)
    options = {f"--{name.replace('_', '-')}": value for name, value in vars(SMALL).items()}
    given = [str(part) for pair in options.items() if pair[1] is not None for part in pair]
    done = run("train", "p", "--model", "five", "--shortlist", "10", "--device", "cpu", *given)
    assert done.code == 0
    assert len({weights(name) for name in ("one", "two", "three", "four", "five")}) == 1
    assert PhraseScorer.load("one", "cpu").score(PAIRS).shape == (len(PAIRS),)


@pytest.mark.usefixtures("files")
def test_what_cannot_be_trained(folder):
    with pytest.raises(UsageError, match="unknown architecture 'rnn'"):
        train("p", "m", architecture="rnn")
    with pytest.raises(UsageError, match="pairs without counts cannot be weighed by them"):
        train(PAIRS, "m", weight_by_count=True)
    with pytest.raises(UsageError, match="3 files: give one of pairs, or sources and targets"):
        train(("s", "t", "p"), "m")
    with pytest.raises(UsageError, match="unknown preset 'xx'; choose from small, base, "):
        train("p", "m", preset="xx")
    with pytest.raises(UsageError, match="--shortlist must be at least 2, not -5"):
        train("p", "m", shortlist=-5)
    with pytest.raises(DataError, match="the pairs given: no pairs to train on"):
        train((), "m")
    with pytest.raises(TypeError, match="pair 1 must be"):
        train([("a", "b"), "ab"], "m")
    with pytest.raises(DataError, match="p: no pairs to train on"):
        (folder / "p").write_bytes(b"")
        train("p", "m")
    assert not (folder / "m").exists()


@pytest.mark.usefixtures("files")
def test_the_directory_says_what_it_holds(folder):
    train("p", "m", choices=SMALL, shortlist=10, direction="inverse", device="cpu")
    card = (folder / "m" / "README.md").read_text()
    assert "the natural logarithm of p(source | target) of a phrase pair" in card
    assert "| trained on | 12 distinct pairs: `p` |" in card
    scorer = PhraseScorer.load("m", "cpu")
    words = f"{len(scorer.source_vocabulary)}, {len(scorer.target_vocabulary)}"
    assert f"| words of its input and output | {words} |" in card
    assert f"| fingerprint | {scorer.fingerprint} |" in card
    assert "--inverse-model DIR" in card


@pytest.mark.usefixtures("files")
def test_a_readme_of_somebody_else_stays(folder):
    (folder / "m").mkdir()
    (folder / "m" / "README.md").write_text("my notes\n")
    train("p", "m", choices=SMALL, device="cpu")
    train("p", "m", choices=SMALL, device="cpu", overwrite=True)
    assert (folder / "m" / "README.md").read_text() == "my notes\n"
    train("a|b`c", "n", choices=SMALL, device="cpu", read=lambda _: read_pairs(PairFiles(("p",))))
    assert "`a\\|b'c`" in (folder / "n" / "README.md").read_text()
