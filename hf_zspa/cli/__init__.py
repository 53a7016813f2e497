"""The command line: `hf-zspa`, also `python -m hf_zspa`. A module here holds a few commands, `main` runs them all."""

import sys
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ..hub import Interrupted
from ..version import __version__
from . import checkpoints, hub, measuring, page, pictures, tuning
from .shared import flag

INTERRUPTED = 130  # the exit status of what Ctrl-C ends


class _Commands(TyperGroup):
    """Typer's, which names the commands where one is unknown and like none of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not get_close_matches(args[0], self.commands):
            ctx.fail(f"No such command {args[0]!r}. There are {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="Vision-language checkpoints that prune their own visual tokens, chosen for the question.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # which fits the lines of a docstring to the terminal
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, flag("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Where `--version` is taken; the help of the program is above."""


for part in (pictures, checkpoints, hub, measuring, tuning, page):
    app.add_typer(part.app)


def main() -> None:
    """Runs the command line. Bad input ends in one line on stderr and status 1, wrong usage in 2, Ctrl-C in 130."""
    try:
        app()
    except Interrupted as error:
        _stop(str(error), INTERRUPTED)
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        _stop("interrupted", INTERRUPTED)  # typer says nothing
    except ValueError as error:
        _stop(str(error) or type(error).__name__)
    except OSError as error:  # the Hub's and transformers' own errors are among these
        name = error.filename or (type(error) is OSError and "standard output")
        _stop(f"{name}: {error.strerror}" if name and error.strerror else str(error) or type(error).__name__)
    except ImportError as error:  # transformers imports torchvision with its processors, and reports it as its own
        reason = str(error.__cause__ or error)
        if "torchvision" not in reason:
            raise
        from ..loading import torchvision_to_install

        _stop(
            f"torchvision and torch do not fit each other ({reason}): {torchvision_to_install()}, or uninstall it, if "
            "the model needs none"
        )


def _stop(message: str, status: int = 1) -> NoReturn:
    print(f"hf-zspa: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
