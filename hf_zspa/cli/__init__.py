"""The command line: `hf-zspa`, also `python -m hf_zspa`. A module here holds a few commands, `main` runs them all."""

import sys

import typer

from . import checkpoints, measuring, pictures

app = typer.Typer(
    help="Vision-language checkpoints that prune their own visual tokens, chosen for the question.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (pictures, checkpoints, measuring):
    app.add_typer(part.app)


def main() -> None:
    """Runs the command line. Bad input ends in one line on stderr and exit status 1, wrong usage in 2."""
    try:
        app()
    except (ValueError, OSError) as error:  # the Hub's and transformers' own errors are among these
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"hf-zspa: {line}", file=sys.stderr)
        sys.exit(1)
