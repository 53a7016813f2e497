"""The fenced blocks of the documentation: found, run on the embedded checkpoint, or checked where they cannot run.

What a block shows as printed must be printed: the lines below a command, where `...` stands for anything, and in Python
the comment behind a `print(…)`.

A block that needs weights, a GPU, the network or minutes has `<!-- not run: the reason -->` on the line before its
fence. It is still checked: Python is compiled, a command line of hf-zspa is parsed against its real options.
"""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import typer
import yaml

from hf_zspa import cli
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.scenes import CHECKPOINT, EXAMPLES

ROOT = Path(__file__).parents[2]
LANGUAGES = ("python", "console", "json", "yaml", "bibtex", "text")
STAND_INS = {  # what a page names, and what stands under that name where its blocks run
    "Qwen/Qwen2.5-VL-7B-Instruct": CHECKPOINT,
    "llava-hf/llava-1.5-7b-hf": CHECKPOINT,
    "qwen2.5-vl-zspa": checkpoint_folder("embedded"),
    "org/qwen25vl-zspa": checkpoint_folder("embedded"),
    "street.jpg": EXAMPLES / "relation.png",
    "configs": ROOT / "configs",
}
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^`\s]*)")
_SHOWN = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
_BORDERS = re.compile(r"[\u2500-\u257f]")  # of tables
_MARK = re.compile(r" *<!-- not run: (?P<reason>\S.*?) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: that of its fence, from 1.
        not_run: why it is not run; None for a block that is.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line after `$ ` of a console block, with the lines of output that the block shows below it."""

    words: list[str]
    shown: list[str]


def pages() -> list[Path]:
    """Every page whose blocks are promised to work."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*(page for page in top if page.exists()), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence is not closed, its language is none of `LANGUAGES`, or a mark has no reason.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    found, number = [], 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        end = fence["indent"] + fence["fence"]
        if end not in lines[number + 1 :]:
            raise ValueError(f"{page.name}:{number + 1}: this fence is not closed by {end!r}")
        last = lines.index(end, number + 1)
        text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[number + 1 : last])
        block = Block(page, number + 1, fence["language"], text, _reason(page, lines, number))
        if block.language not in LANGUAGES:
            raise ValueError(f"{block.place}: the language {block.language!r} is none of {', '.join(LANGUAGES)}")
        found.append(block)
        number = last + 1
    return found


def _reason(page: Path, lines: list[str], fence: int) -> str | None:
    before = lines[fence - 1] if fence else ""
    mark = _MARK.match(before)
    if mark is None and "not run" in before and "<!--" in before:
        raise ValueError(f"{page.name}:{fence}: {before.strip()!r} must read <!-- not run: the reason -->")
    return mark["reason"] if mark else None


def run(blocks: list[Block]) -> None:
    """Runs the blocks of a page in their order, in the current folder; its Python blocks share their names."""
    _place_stand_ins(blocks)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in blocks:
        if block.not_run is None and block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(_compiled(block), names)
            _check_printed(block, _SHOWN.findall(block.text), output.getvalue())
        elif block.not_run is None and block.language == "console":
            for command in commands(block):
                _run_command(block, command)


def check(block: Block) -> None:
    """Checks what can be checked of a block without running it."""
    if block.language == "python":
        _compiled(block)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "console":
        for command in commands(block):
            _check_command(block, command.words)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block; one goes on over lines that end in a backslash."""
    lines = iter(block.text.splitlines())
    words: list[str] = []
    shown: list[str] = []
    for line in lines:
        if not line.startswith("$ "):
            shown.append(line)
            continue
        if words:
            yield Command(words, shown)
        while line.endswith("\\"):
            line = line[:-1] + next(lines)
        words, shown = shlex.split(line[2:], comments=True), []
    if not words:
        raise ValueError(f"{block.place}: no line of this console block begins with '$ '")
    yield Command(words, shown)


def _compiled(block: Block):
    """The block's code; tracebacks point to its lines on the page."""
    return compile("\n" * block.line + block.text, str(block.page), "exec")


def _place_stand_ins(blocks: list[Block]) -> None:
    """Puts what the blocks name into the current folder, except for what they make themselves."""
    running = [block for block in blocks if block.not_run is None]
    made = [
        command.words[3]
        for block in running
        if block.language == "console"
        for command in commands(block)
        if command.words[:2] == ["hf-zspa", "convert"]
    ]
    for name, origin in STAND_INS.items():
        if name in made or not any(name in block.text for block in running):
            continue
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if origin.is_dir() else shutil.copy)(origin, name)


def _run_command(block: Block, command: Command) -> None:
    """Runs a command line of hf-zspa and checks that it succeeds and prints what the block shows."""
    arguments = _arguments(command.words)
    if arguments is None:
        raise AssertionError(
            f"{block.place}: only hf-zspa is run here, not {command.words[0]}: put <!-- not run: the reason --> before "
            "the block"
        )
    with (
        mock.patch.object(sys, "argv", ["hf-zspa", *arguments]),
        contextlib.redirect_stdout(io.StringIO()) as output,
    ):
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    assert status == 0, f"{block.place}: {shlex.join(command.words)} ended with status {status}"
    _check_printed(block, command.shown, output.getvalue())


def _check_printed(block: Block, shown: list[str], output: str) -> None:
    printed = " ".join(_BORDERS.sub(" ", output).split())
    for line in shown:
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        assert re.search(pattern, printed), f"{block.place}: {line!r} is not in what is printed:\n{output}"


def _check_command(block: Block, words: list[str]) -> None:
    arguments = _arguments(words)
    if arguments is not None:
        _check_arguments(block, arguments)
    elif words[0] == "make":
        _check_names(block, words[1:], re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    elif words[0].endswith("nox"):
        sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE)
        given = words[2 : words.index("--") if "--" in words else None]
        _check_names(block, [name.partition("(")[0] for name in given], sessions)
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), f"{block.place}: there is no file {words[1]}"
    elif words[:2] == ["python", "-m"] and words[2].startswith("hf_zspa."):
        assert importlib.util.find_spec(words[2]), f"{block.place}: there is no module {words[2]}"


def _arguments(words: list[str]) -> list[str] | None:
    """What follows `hf-zspa` or `python -m hf_zspa`; None for another program."""
    for program in (["hf-zspa"], ["python", "-m", "hf_zspa"]):
        if words[: len(program)] == program:
            return words[len(program) :]
    return None


def _check_arguments(block: Block, arguments: list[str]) -> None:
    """Parses a command line of hf-zspa without running it."""
    known = typer.main.get_command(cli.app).commands
    name, *rest = arguments
    assert name in known, f"{block.place}: hf-zspa has no command {name!r}"
    try:
        known[name].make_context(name, rest)
    except Exception as error:  # click's, wherever typer has it from
        raise AssertionError(f"{block.place}: hf-zspa {shlex.join(arguments)}: {error}") from error


def _check_names(block: Block, given: list[str], known: list[str]) -> None:
    for name in given:
        assert name in known, f"{block.place}: {name!r} is none of {', '.join(known)}"
