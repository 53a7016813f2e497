"""The command line: `hf-zspa`, also `python -m hf_zspa`. A module here holds a few commands, `main` runs them all."""

import sys
from typing import Annotated

import typer

from ..version import __version__
from . import checkpoints, hub, measuring, pictures

app = typer.Typer(
    help="Vision-language checkpoints that prune their own visual tokens, chosen for the question.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Where `--version` is taken; the help of the program is above."""


for part in (pictures, checkpoints, hub, measuring):
    app.add_typer(part.app)


def main() -> None:
    """Runs the command line. Bad input ends in one line on stderr and exit status 1, wrong usage in 2."""
    try:
        app()
    except (ValueError, OSError) as error:  # the Hub's and transformers' own errors are among these
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"hf-zspa: {line}", file=sys.stderr)
        sys.exit(1)
