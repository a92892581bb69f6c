"""The command ems: what Moses' experiment management system needs, written into a folder."""

from __future__ import annotations

import click

from moses_integration.cli.options import make_new_folder


@click.command(
    epilog="""\b
Example:
  phrase-scorer ems --output-dir phrase-scorer-ems/
  less phrase-scorer-ems/config.phrase-scorer"""
)
@click.option("--output-dir", required=True, metavar="DIR", help="A folder that is new or empty.")
def ems(output_dir: str) -> None:
    """Write what Moses' experiment management system (EMS, experiment.perl) needs into a folder.

    rescore-hook.sh adds the column when EMS has built the phrase table; train-model-wrapper.sh
    makes each moses.ini of EMS fit it; config.phrase-scorer has the lines for your config, which
    say the rest.
    """
    from moses_integration.ems import installed_program, write_ems_files

    program = installed_program()
    for path in write_ems_files(make_new_folder(output_dir, "--output-dir"), program):
        click.echo(path)
