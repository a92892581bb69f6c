"""The command that makes tokenised text of raw text: prepare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from moses_integration.cli.options import FILE
from moses_integration.preparation import PrepareRequest, prepare_corpus
from phrase_scorer.cli.options import Command, option, quiet_option, request_of
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say


def _unless(name: str, setting: str, text: str) -> Callable[[Command], Command]:
    """A flag that turns a setting off."""
    return option(name, setting, is_flag=True, callback=lambda *given: not given[-1], help=text)


@click.command(epilog="""\b
Examples:
  phrase-scorer prepare corpus.en corpus.fr --languages en fr --output-dir prepared/
  phrase-scorer prepare corpus.en.gz corpus.fr.gz --languages en fr --lowercase --no-escape \\
      --threads 8 --output-dir prepared/
  phrase-scorer prepare test.en --languages en --truecase-model-dir prepared/ --output-dir test/
""")  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="FILE [FILE]")
@option("--languages", "first_language", required=True, metavar="LANG [LANG]",
        help="Code of each file's language: en fr.")  # fmt: skip
@option("--output-dir", required=True, type=FILE, metavar="DIR",
        help="Folder for the prepared files.")  # fmt: skip
@option("--truecase", "casing", flag_value="truecase", default=True, show_default=False,
        help="Words as they are mostly written within sentences.  [default]")  # fmt: skip
@option("--lowercase", "casing", flag_value="lowercase", help="All words in lower case.")
@option("--keep-case", "casing", flag_value="keep", help="Words cased as they stand.")
@option("--truecase-model-dir", type=FILE, metavar="DIR", help="The output "
        "of an earlier run, whose truecasers to use; otherwise they are trained.")  # fmt: skip
@_unless("--no-escape", "escape", "Leave & | < > ' \" [ ] as they are.")
@_unless("--no-normalize", "normalise", "Leave punctuation as it is.")
@_unless("--no-clean", "clean", "Keep all sentence pairs.")
@option("--min-length", default=1, metavar="N", help="Shortest sentence kept, in words.")
@option("--max-length", default=80, metavar="N", help="Longest sentence kept, in words.")
@option("--ratio", default=9.0, metavar="X",
        help="Largest ratio of the longer to the shorter side.")  # fmt: skip
@option("--threads", "processes", default=1, metavar="N", help="Processes that tokenise.")
@quiet_option
def prepare(files: tuple[str, ...], first_language: str, **options: Any) -> None:
    """Normalise, tokenise, case and clean a corpus (two files), or a text (one file).

    Token for token as Moses' own scripts do it. Sentence pairs with an empty side, beyond the
    bounds or of very different lengths are dropped; a single text keeps all its lines.
    """
    paths, languages = _split(files, first_language)
    request = request_of(PrepareRequest, {**options, "files": paths, "languages": languages})
    done = prepare_corpus(request)
    for reason, count in done.dropped.most_common():
        say(f"dropped: {count:,} ({reason})")
    say(f"{done.kept:,} of {done.lines:,} lines written to {', '.join(map(str, request.outputs))}")


def _split(words: tuple[str, ...], first: str) -> tuple[list[str], list[str]]:
    """(files, languages): the second language of `--languages en fr` comes among the files."""
    count = (len(words) + 1) // 2
    if len(words) % 2 == 0 or count > 2:
        raise UsageError("give one file and --languages LANG, or two files and two languages")
    return list(words[:count]), [first, *words[count:]]
