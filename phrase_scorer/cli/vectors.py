"""The command vectors: what the network makes of phrases and of words, for other programs."""

from __future__ import annotations

import sys

import click

from phrase_scorer.cli.options import (
    device_options,
    max_unknown_option,
    model_option,
    option,
    takes,
)
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import note
from phrase_scorer.runtime.output import STANDARD
from phrase_scorer.scoring.vector_file import VectorRequest, write_vectors


@click.command(epilog="""\b
Examples:
  phrase-scorer vectors phrases.txt --model rnn/ --output vectors.npz
  zcat phrase-table.gz | sed 's/ |||.*//' | uniq | phrase-scorer vectors - --model rnn/ -o c.npz
  phrase-scorer vectors --embeddings target --model rnn/ --output words.npz
  python3 -c "import numpy; print(numpy.load('vectors.npz')['vectors'].shape)"
""")  # fmt: skip
@click.argument("phrases", metavar="[PHRASES]", required=False)
@model_option
@option("-o", "--output", default=STANDARD, show_default=False, metavar="FILE",
        help="Where to write the npz.  [default: stdout]")  # fmt: skip
@option("--embeddings", type=click.Choice(["source", "target"]),
        help="Write the embeddings of a side's shortlist instead.")  # fmt: skip
@max_unknown_option
@device_options
@takes(VectorRequest)
def vectors(request: VectorRequest) -> None:
    """Write the vectors that the network makes of PHRASES, or of its words, as an npz of numpy.

    PHRASES has one source phrase per line, compressed or not; "-" is standard input. The file has
    two arrays: `phrases`, the lines, and `vectors`, (phrases, hidden) float32. A vector is the
    summary c, all that an encoder_decoder's decoder sees of a phrase; of a seq2seq model it is the
    last state of the highest layer. Other architectures have none.

    With --embeddings it has `words`, the shortlist in its order, and `vectors`, (words, width).
    """
    if request.output == STANDARD and sys.stdout.isatty():
        raise UsageError("an npz is not for a terminal: give --output FILE")
    from phrase_scorer.scoring.scorer import PhraseScorer

    request.arithmetic.use_threads()
    scorer = PhraseScorer.load(request.model_path, request.arithmetic)
    if request.phrases and scorer.direction == "inverse":
        note("the model is inverse: PHRASES are of the target language")
    write_vectors(request, scorer)
