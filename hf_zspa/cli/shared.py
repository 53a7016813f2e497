"""What the commands share: how they print, and how they read what is typed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the checkpoint's code even if it is not hf_zspa's own.")
]

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else there.")]


def say_json(content: Any) -> None:
    print(json.dumps(content, default=str, indent=2))


def say(line: str) -> None:
    """Prints a line as it is, whatever its length and whatever looks like markup in it."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def quiet(progress: bool = False) -> None:
    """Leaves the terminal to the command's own words and, if wanted, the Hub's progress bars."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not progress or not console.is_terminal:
        disable_progress_bars()


def names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}, but must be numbers separated by commas, such as 0.1,0.2") from error


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr that appears with the first bytes; None where stderr is no terminal."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    if not bar.console.is_terminal:
        yield None
        return
    task = bar.add_task(what, total=None)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()
