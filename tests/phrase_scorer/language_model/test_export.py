"""Export as a back-off model: read by KenLM, equal to the network, every context sums to one."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phrase_scorer.errors import DataError, UsageError, quoted
from phrase_scorer.language_model.arpa import read_arpa, write_arpa
from phrase_scorer.language_model.export import SharedVocabulary, _with_back_off, export, links_of
from phrase_scorer.language_model.model import LanguageModel
from phrase_scorer.models import ModelConfig, build
from phrase_scorer.text.vocabulary import Vocabulary

kenlm = pytest.importorskip("kenlm", reason="the package kenlm is not installed")

WORDS = ["<unk>", "</s>", "un", "homme", "chat", "vélo"]


def asked(language_model, history: list[str], word: str) -> float:
    """log10 p(word | history) by KenLM; a history begins anywhere unless with <s>."""
    state, following = kenlm.State(), kenlm.State()
    if history[:1] == ["<s>"]:
        language_model.BeginSentenceWrite(state)
        history = history[1:]
    else:
        language_model.NullContextWrite(state)
    for past in history:
        language_model.BaseScore(state, past, following)
        state, following = following, state
    return language_model.BaseScore(state, word, following)


def own(model, history: list[str], word: str) -> float:
    """log10 p of the network over the file's words, by hand."""
    ids = {"<s>": 5, "un": 2, "homme": 3}
    padding = 5 if history[:1] == ["<s>"] else 6
    context = [padding] * (3 - len(history)) + [ids.get(w, 1) for w in history]
    log_probs = model.chosen_log_probs(np.array([context]), np.zeros(5, np.int64), np.arange(5))
    p = np.exp(log_probs)
    p[4] = 0.0  # "chien"
    p /= p.sum()
    shares = {"<unk>": 10**-1.5, "chat": 10**-1.2, "vélo": 10**-1.6}
    if word in shares:
        return math.log10(p[1] * shares[word] / sum(shares.values()))
    return math.log10(p[{"</s>": 0, "un": 2, "homme": 3}[word]])


def test_kenlm_gives_the_networks_probabilities(model, given):
    exported = export(model, given)
    write_arpa(exported, "out.arpa")
    language_model = kenlm.Model("out.arpa")
    checked = 0
    for order in exported.orders:
        for words in order.words:
            *history, word = (given.words[i].decode() for i in words)
            if word != "<s>":
                found = asked(language_model, history, word)
                assert found == pytest.approx(own(model, history, word), abs=1e-5)
                checked += 1
    assert checked == 6 + 6 + 4


def test_every_context_sums_to_one(model, given):
    write_arpa(export(model, given), "out.arpa")
    language_model = kenlm.Model("out.arpa")
    everything = ["<s>", "un", "homme", "chat", "vélo", "zut"]
    for length in range(3):
        for history in itertools.product(everything, repeat=length):
            if "<s>" in history[1:]:
                continue
            total = sum(10 ** asked(language_model, list(history), word) for word in WORDS)
            assert total == pytest.approx(1, abs=1e-5), history


def test_pruning_leaves_a_smaller_model_that_sums_to_one(model, given):
    whole = export(model, given)
    sizes = []
    for threshold in (1e-9, 3e-3):
        smaller = export(model, given, prune=threshold)
        sizes.append([len(order) for order in smaller.orders])
        write_arpa(smaller, "pruned.arpa")
        language_model = kenlm.Model("pruned.arpa")
        for history in ([], ["<s>"], ["un"], ["<s>", "un"], ["un", "chat"], ["vélo", "homme"]):
            total = sum(10 ** asked(language_model, history, word) for word in WORDS)
            assert total == pytest.approx(1, abs=1e-5)
    assert sizes[0] == [len(order) for order in whole.orders]
    assert sizes[0] > sizes[1]
    with pytest.raises(UsageError) as error:
        export(model, given, prune=10.0)
    assert str(error.value) == "--prune 10.0 leaves only unigrams, which KenLM does not read"


def test_what_pruning_loses_is_what_it_says(model, given):
    """The relative entropy of dropping one n-gram, summed over the vocabulary with KenLM."""
    whole = export(model, given)
    write_arpa(whole, "whole.arpa")
    before = kenlm.Model("whole.arpa")
    orders = list(whole.orders)
    losses = {}
    for row, words in enumerate(orders[2].words):
        kept = np.arange(len(orders[2])) != row
        cut = type(orders[2])(
            orders[2].words[kept], orders[2].log10[kept], orders[2].back_off[kept]
        )

        smaller = replace(whole, orders=[*orders[:2], cut])
        write_arpa(_with_back_off(smaller, links_of(smaller)), "cut.arpa")
        after = kenlm.Model("cut.arpa")
        history = [whole.words[i].decode() for i in words[:-1]]
        first = "</s>" if history[0] == "<s>" else history[0]
        p_history = 10 ** (asked(before, [], first) + asked(before, history[:1], history[1]))
        divergence = 0.0
        for word in WORDS:
            p = asked(before, history, word)
            divergence += 10**p * (p - asked(after, history, word)) * math.log(10)
        losses[tuple(words.tolist())] = math.expm1(p_history * divergence)
    for threshold in sorted(losses.values()):
        found = export(model, given, prune=threshold * 1.001)
        left = (
            {tuple(w.tolist()) for w in found.orders[2].words} if len(found.orders) > 2 else set()
        )
        assert left == {words for words, loss in losses.items() if loss > threshold * 1.001}


def test_reading_what_was_written(given):
    write_arpa(given, "again.arpa.gz")
    again = read_arpa("again.arpa.gz")
    assert again.words == given.words
    for one, other in zip(again.orders, given.orders, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_allclose(one.log10, other.log10, rtol=1e-6)
        np.testing.assert_allclose(one.back_off, other.back_off, rtol=1e-6)


BROKEN = {
    "not an ARPA file": (
        "\\1-grams:",
        "",
        'given.arpa:8: not a line of an ARPA header: "-1.5\\t<unk>\\t0"',
    ),
    **{
        f"a count of {len(count)} digits": (
            "ngram 2=6",
            f"ngram 2={count}",
            "given.arpa:4: too many n-grams: " + quoted(f"ngram 2={count}"),
        )
        for count in ("99999999999", "9" * 5000)
    },
    "wrong count": ("ngram 2=6", "ngram 2=5", "given.arpa:24: 6 2-grams, but the header says 5"),
    "cut short": ("\\end\\", "", "given.arpa: cut short: \\end\\ is missing after the 3-grams"),
    "no number": (
        "-0.4\tun homme",
        "x\tun homme",
        'given.arpa:18: not a 2-gram of known words with log10 p: "x\\tun homme\\t-0.2"',
    ),
    "unknown word": (
        "un chat\t-0.2",
        "un loup\t-0.2",
        'given.arpa:19: not a 2-gram of known words with log10 p: "-0.9\\tun loup\\t-0.2"',
    ),
    "probability above 1": (
        "-0.4\tun homme",
        "0.4\tun homme",
        'given.arpa:18: not a 2-gram of known words with log10 p: "0.4\\tun homme\\t-0.2"',
    ),
    "a word twice": (
        "-1.6\tvélo",
        "-1.6\tchat",
        'given.arpa:14: a word stands twice: "-1.6\\tchat\\t0"',
    ),
    "two unknown words": (
        "-1.6\tvélo",
        "-1.6\t<UNK>",
        'given.arpa:14: a word stands twice: "-1.6\\t<UNK>\\t0"',
    ),
    "no start": ("-99\t<s>", "-99\tzut", "given.arpa: there is no unigram <s>"),
    **{
        line: (
            f"{line[0]}0.8\thomme\t-0.1",
            line,
            f'given.arpa:12: not a 1-gram of known words with log10 p: "{line}"'.replace(
                "\t", "\\t"
            ),
        )
        for line in (
            *(f"{value}\thomme\t-0.1" for value in ("-inf", "-1e999", "-1_0")),
            *(f"-0.8\thomme\t{value}" for value in ("-inf", "inf", "nan", "1e999")),
        )
    },
    "orders": (
        "ngram 3=4",
        "ngram 4=4",
        'given.arpa:5: n-gram orders are not 1, 2, 3, …: "ngram 4=4"',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(given, name):
    old, new, message = BROKEN[name]
    Path("given.arpa").write_text(
        Path("given.arpa").read_text("utf-8").replace(old, new, 1), encoding="utf-8"
    )
    with pytest.raises(DataError) as error:
        read_arpa("given.arpa")
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["<UNK>", None], ids=["of IRSTLM", "missing"])
def test_the_unknown_word_as_kenlm_takes_it(name, given, model):
    text = Path("given.arpa").read_text("utf-8")
    if name:
        text = text.replace("<unk>", name)
    else:
        text = text.replace("-1.5\t<unk>\t0\n", "").replace("ngram 1=7", "ngram 1=6")
    Path("given.arpa").write_text(text, encoding="utf-8")
    read = read_arpa("given.arpa")
    write_arpa(read, "again.arpa")
    before, after = kenlm.Model("given.arpa"), kenlm.Model("again.arpa")
    for sentence in ("un homme zut", "zut chat vélo", "<UNK> un <unk>"):
        assert list(before.full_scores(sentence)) == list(after.full_scores(sentence))
    assert read.words.count(b"<unk>") == 1
    assert read.words.count(b"<UNK>") == 0
    write_arpa(export(model, read), "exported.arpa")
    exported = kenlm.Model("exported.arpa")
    for history in ([], ["un"], ["<s>", "un"], ["zut"]):
        total = sum(10.0 ** asked(exported, history, word) for word in WORDS)
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_what_is_not_finite_is_never_written(value, given):
    for numbers in (given.orders[1].log10, given.orders[1].back_off):
        kept, numbers[2] = numbers[2], value
        with pytest.raises(DataError) as error:
            write_arpa(given, "out.arpa")
        message = "given.arpa: some 2-grams got no finite probability from the model"
        assert str(error.value) == message
        numbers[2] = kept
    assert not Path("out.arpa").exists()


def test_an_ngram_without_its_history(given, model):
    text = Path("given.arpa").read_text("utf-8").replace("un chat\t-0.2", "homme chat\t-0.2", 1)
    Path("given.arpa").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        export(model, read_arpa("given.arpa"))
    assert str(error.value) == 'given.arpa: the n-gram "un chat vélo" has no history: "un chat"'


def test_what_does_not_fit(given, model):
    small = build(
        ModelConfig(2, 5, architecture="cslm", order=2, hidden=2, second_hidden=2), 1, 0.1
    )
    with pytest.raises(DataError) as error:
        SharedVocabulary(LanguageModel(small, model.vocabulary), given)
    assert str(error.value) == "given.arpa: n-grams up to order 3, but the model reads 2"
    other = LanguageModel(model.model, Vocabulary([b"a", b"b", b"c"]))
    with pytest.raises(DataError) as error:
        SharedVocabulary(other, given)
    assert str(error.value) == (
        "given.arpa: its vocabulary is not the model's: words that make up 53% of its text are "
        "unknown to the model"
    )


def test_a_share_of_the_network(model, given):
    """Stored n-grams have the mixture of both probabilities; contexts still sum to one."""
    unigrams = given.orders[0].log10
    unigrams[given.words.index(b"<s>")] = 0.0  # as lmplz writes it: no probability all the same
    sums = [sum(10.0**unigrams) - 1, 1, 1]  # this file's unigrams are no distribution
    pure = export(model, given)
    write_arpa(export(model, given, share=0.3), "mixed.arpa")
    mixed = kenlm.Model("mixed.arpa")
    for network, old, total in zip(pure.orders, given.orders, sums, strict=True):
        for words, p, q in zip(network.words.tolist(), network.log10, old.log10, strict=True):
            text = [given.words[word].decode() for word in words]
            if text != ["<s>"]:
                expected = math.log10(0.3 * 10**p + 0.7 * 10**q / total)
                assert asked(mixed, text[:-1], text[-1]) == pytest.approx(expected, abs=2e-6)
    for history in itertools.product(["un", "homme", "vélo"], repeat=2):
        total = sum(10 ** asked(mixed, list(history), word) for word in WORDS)
        assert total == pytest.approx(1, abs=1e-5)
