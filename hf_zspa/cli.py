"""The command line: `hf-zspa`, also `python -m hf_zspa`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="Vision-language checkpoints that prune their own visual tokens, chosen for the question.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def _group() -> None:
    """Keeps `hf-zspa COMMAND` the form however many commands there are."""


ImageFile = Annotated[Path | None, typer.Option("--image", help="A picture; by default one of the shipped scenes.")]
KeepRatio = Annotated[float | None, typer.Option(help="Share of tokens kept, (0, 1]; by default the checkpoint's.")]
CoreRatio = Annotated[float | None, typer.Option(help="Share of those chosen by relevance; default the checkpoint's.")]


@app.command("demo")
def demo_command(
    image: ImageFile = None,
    prompt: Annotated[str | None, typer.Option(help="A question; by default the shipped scene's.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("zspa-demo.png"),
    keep_ratio: KeepRatio = None,
    core_ratio: CoreRatio = None,
) -> None:
    """Answers a question about an image with and without pruning, on the small model inside the package."""
    from .demo import demo

    _quiet()
    demo(output, image, prompt, keep_ratio=keep_ratio, core_ratio=core_ratio, console=console)


@app.command("visualize")
def visualize_command(
    checkpoint: Annotated[str, typer.Argument(help="A zspa checkpoint: a folder or a Hub id.")],
    image: Annotated[Path, typer.Option("--image", help="A picture.")],
    prompt: Annotated[str, typer.Option(help="The question about it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")],
    compare: Annotated[bool, typer.Option("--compare", help="Diversity alone, relevance alone, and balance.")] = False,
    keep_ratio: KeepRatio = None,
    core_ratio: CoreRatio = None,
) -> None:
    """Draws the relevance heat map and the kept tokens over an image."""
    from .visualize import visualize

    _quiet()
    with console.status("choosing visual tokens"):
        selection = visualize(
            checkpoint, image, prompt, output, compare=compare, keep_ratio=keep_ratio, core_ratio=core_ratio
        )
    console.print(f"kept {len(selection.kept)} of {len(selection.scores)} visual tokens, see {output}", highlight=False)


def _quiet() -> None:
    """Leaves the terminal to the command's own words."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main() -> None:
    """Runs the command line. Bad input ends in one line on stderr and exit status 1, wrong usage in 2."""
    try:
        app()
    except (ValueError, OSError) as error:  # the Hub's and transformers' own errors are among these
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"hf-zspa: {line}", file=sys.stderr)
        sys.exit(1)
