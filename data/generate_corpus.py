"""Writes corpus/{train,tune,test}.{en,fr}: core.tsv and sentences of the grammar, tokenised.

    python data/generate_corpus.py

Tokenised as Moses' tokenizer.perl does (sacremoses, with escaping), lower-cased. Equal runs write
equal bytes. No English sentence of the tuning or test set stands in the training set.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

from grammar import PAIR, sentences
from sacremoses import MosesTokenizer

FOLDER = Path(__file__).parent
SEED = 2014
GRAMMAR_SENTENCES = 5_000
HELD_OUT_CORE = 30  # core sentences of the tuning set, and of the test set
HELD_OUT_GRAMMAR = 220  # sentences of the grammar in each


def core() -> list[PAIR]:
    """The hand-written sentences."""
    lines = (FOLDER / "core.tsv").read_text("utf-8").splitlines()
    return [(english, french) for english, french in (line.split("\t") for line in lines)]


def sets() -> dict[str, list[PAIR]]:
    """The pairs of each set, without a sentence in common."""
    hand_written = core()
    english = {pair[0] for pair in hand_written}
    drawn = (pair for pair in sentences(SEED) if pair[0] not in english)
    grammar = list(islice(drawn, GRAMMAR_SENTENCES))
    draw = random.Random(SEED)
    draw.shuffle(hand_written)
    result: dict[str, list[PAIR]] = {}
    for name in ("tune", "test"):
        result[name] = hand_written[:HELD_OUT_CORE] + grammar[:HELD_OUT_GRAMMAR]
        hand_written, grammar = hand_written[HELD_OUT_CORE:], grammar[HELD_OUT_GRAMMAR:]
    result["train"] = hand_written + grammar
    for pairs in result.values():
        draw.shuffle(pairs)
    return result


def main() -> None:
    """Writes the files."""
    tokenizers = {"en": MosesTokenizer("en"), "fr": MosesTokenizer("fr")}
    (FOLDER / "corpus").mkdir(exist_ok=True)
    for name, pairs in sets().items():
        for side, (language, tokenizer) in enumerate(tokenizers.items()):
            lines = [tokenizer.tokenize(p[side], return_str=True).lower() for p in pairs]
            path = FOLDER / "corpus" / f"{name}.{language}"
            path.write_text("".join(line + "\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
