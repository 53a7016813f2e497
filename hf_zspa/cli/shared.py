"""What the commands share: how they print, and how they read what is typed."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()
flag = partial(typer.Option, metavar="")  # an option without a value
Trust = Annotated[bool, flag("--trust-remote-code", help="Run the checkpoint's code even if it is not hf_zspa's own.")]

Json = Annotated[bool, flag("--json", help="One JSON object on stdout, and nothing else there.")]


def _share(text: str) -> float:
    """A ratio that is typed; whether it is in its range is for others to say."""
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number; give a share such as 0.1, at most 1") from error


ratio = partial(typer.Option, parser=_share, metavar="<float>")
count = partial(typer.Option, min=1, metavar="<int>")


def say_json(content: Any) -> None:
    print(json.dumps(content, default=str, indent=2))


def say(line: str) -> None:
    """Prints a line as it is, whatever its length and whatever looks like markup in it."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_tables(text: str) -> None:
    """Markdown, drawn where its tables are as wide as a terminal at most, and as it is elsewhere."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    if console.is_terminal and max(map(len, rows), default=0) <= console.width:
        console.print(Markdown(text))
    else:
        say(text)


def quiet(progress: bool = False) -> None:
    """Leaves the terminal to the command's own words and, if wanted, the Hub's progress bars."""
    from huggingface_hub.utils import disable_progress_bars

    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # for when it is imported, which takes seconds
    if transformers := sys.modules.get("transformers"):
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
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
def as_typed(**given: Any) -> Iterator[None]:
    """Names an option as it is typed where an error names the field or the argument that it becomes."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for name, value in given.items():
            said = rf"(?<![\w-])(zspa_|--)?{name.replace('_', '[_-]')} is {re.escape(repr(value))}"
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            message = re.sub(said, lambda _: f"--{name.replace('_', '-')} is {shown}", message)  # noqa: B023
        if " is not read by the method " in message:
            message = re.sub(r"zspa_(\w+)", lambda name: f"--{name[1].replace('_', '-')}", message)
        raise ValueError(message) from error


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
