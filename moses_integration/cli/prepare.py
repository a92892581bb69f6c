"""The command that makes tokenised text of raw text: prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phrase_scorer.cli.options import quiet_option
from phrase_scorer.errors import UsageError
from phrase_scorer.runtime.console import say


@click.command(
    epilog="""\b
Examples:
  phrase-scorer prepare corpus.en corpus.fr --languages en fr --output-dir prepared/
  phrase-scorer prepare corpus.en.gz corpus.fr.gz --languages en fr --lowercase --no-escape \\
      --threads 8 --output-dir prepared/
  phrase-scorer prepare test.en --languages en --truecase-model-dir prepared/ --output-dir test/"""
)
@click.argument("files", nargs=-1, required=True, metavar="FILE [FILE]")
@click.option(
    "--languages",
    "first_language",
    required=True,
    metavar="LANG [LANG]",
    help="Code of each file's language: en fr.",
)
@click.option("--output-dir", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--truecase",
    "casing",
    flag_value="truecase",
    default=True,
    help="Words as they are mostly written within sentences.  [default]",
)
@click.option("--lowercase", "casing", flag_value="lowercase", help="All in lower case.")
@click.option("--keep-case", "casing", flag_value="keep", help="As it stands.")
@click.option(
    "--truecase-model-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The output of an earlier run, whose truecasers to use; otherwise they are trained.",
)
@click.option("--no-escape", is_flag=True, help="Leave & | < > ' \" [ ] as they are.")
@click.option("--no-normalize", is_flag=True, help="Leave punctuation as it is.")
@click.option("--no-clean", is_flag=True, help="Keep all sentence pairs.")
@click.option("--min-length", type=int, default=1, show_default=True, metavar="N", help="Words.")
@click.option("--max-length", type=int, default=80, show_default=True, metavar="N", help="Words.")
@click.option(
    "--ratio",
    type=float,
    default=9.0,
    show_default=True,
    metavar="X",
    help="Longest side by shortest side.",
)
@click.option("--threads", type=int, default=1, show_default=True, metavar="N", help="Processes.")
@quiet_option
def prepare(
    files: tuple[str, ...], first_language: str, output_dir: Path, **options: Any
) -> None:  # fmt: skip
    """Normalise, tokenise, case and clean a corpus (two files), or a text (one file).

    Token for token as Moses' own scripts do it. Sentence pairs with an empty side, beyond the
    bounds or of very different lengths are dropped; a single text keeps all its lines.
    """
    from moses_integration.preparation import PreparationSettings
    from moses_integration.preparation import prepare as run

    paths, languages = _split(files, first_language)
    if options["truecase_model_dir"] and options["casing"] != "truecase":
        raise UsageError("--truecase-model-dir goes with --truecase only")
    settings = PreparationSettings(
        casing=options["casing"],
        escape=not options["no_escape"],
        normalise=not options["no_normalize"],
        clean=not options["no_clean"],
        min_length=options["min_length"],
        max_length=options["max_length"],
        ratio=options["ratio"],
        processes=options["threads"],
    )
    done = run(
        paths,
        languages,
        output_dir,
        settings,
        model_folder=options["truecase_model_dir"],
        show_progress=not options["quiet"],
    )
    for reason, count in done.dropped.most_common():
        say(f"dropped: {count:,} ({reason})")
    say(f"{done.kept:,} of {done.lines:,} lines written to {', '.join(map(str, done.outputs))}")


def _split(words: tuple[str, ...], first: str) -> tuple[list[str], list[str]]:
    """(files, languages): the second language of `--languages en fr` comes among the files."""
    count = (len(words) + 1) // 2
    if len(words) % 2 == 0 or count > 2:
        raise UsageError("give one file and --languages LANG, or two files and two languages")
    return list(words[:count]), [first, *words[count:]]
