"""Files from one folder to another: large ones without a copy where the file system can, the rest all or nothing."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no reflinks by this call
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # ioctl of Linux: the file shares the other one's blocks until either is written to
BLOCK = 1 << 24

Progress = Callable[[int, int], None]


def transfer(source: Path, target: Path, link: bool, advance: Callable[[int], None]) -> None:
    """Makes `target` the same as `source`: hard linked on request, else cloned, else copied.

    Args:
        link: share one file on disk; whoever writes to one of the two then writes to both.
        advance: called with the bytes that are done since the last call.

    Raises:
        OSError: the disk is full, or it cannot hard link between the two places.
    """
    source = source.resolve()  # the Hub's cache holds symbolic links
    size = source.stat().st_size
    if link:
        os.link(source, target)
        advance(size)
        return
    with source.open("rb") as reader, target.open("wb") as writer:
        if _clone(reader.fileno(), writer.fileno()):
            advance(size)
            return
        while block := reader.read(BLOCK):
            writer.write(block)
            advance(len(block))


def _clone(source: int, target: int) -> bool:
    """Whether the file system could clone an open file onto another one."""
    if fcntl is None:
        return False
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


def check_target(target: Path, force: bool) -> None:
    """Raises `ValueError` where no folder can be made: over a file, over other files unless forced, or below a file."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, but must be a folder to make")
    above = next(folder for folder in target.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is a file, so that {target} cannot be made: name another folder")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise ValueError(f"{target} is not empty: --force, from Python force=True, replaces it")
    if target == Path.cwd() or target in Path.cwd().parents:
        raise ValueError(f"{target} is the current folder, or holds it: name a folder to make")
    if target.is_dir() and any(target.iterdir()) and not (target / "config.json").is_file():
        raise ValueError(
            f"{target} holds something else than a checkpoint, which is never replaced: name another folder"
        )


@contextmanager
def all_or_nothing(target: Path) -> Iterator[Path]:
    """A new folder beside `target` to fill, which takes its place at the end, with the folders above it where they are
    missing; on any exception nothing changes.

    Raises:
        ValueError: it cannot be written.
    """
    hidden = f".{target.name}."
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield from _filled(target, hidden)
    except OSError as error:
        elsewhere = error.filename and not str(error.filename).startswith(str(target.parent / hidden))
        first = error.args[0][0][2] if isinstance(error, shutil.Error) else str(error)  # it has one for each file
        why = f"{error.filename}: {error.strerror}" if elsewhere else error.strerror or first
        left = "what was there is unchanged" if target.exists() else "nothing is left of it"
        raise ValueError(f"{target} was not made ({why}), and {left}") from error
    finally:
        if not target.exists():
            for folder in missing:
                with suppress(OSError):  # it was not made, or somebody else has put something into it
                    folder.rmdir()


def _filled(target: Path, hidden: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=hidden, dir=target.parent, ignore_cleanup_errors=True) as place:
        fresh, previous = Path(place, "new"), Path(place, "previous")
        fresh.mkdir()
        yield fresh
        try:
            if target.exists():
                target.rename(previous)
            fresh.rename(target)
        except BaseException:
            if previous.exists() and not target.exists():
                previous.rename(target)
            raise


def check_file(path: Path, instead: str = "") -> None:
    """Raises `ValueError` where there is no file `path`; `instead` ends the message."""
    if not path.is_file():
        found = f"{path} is a folder, but must be a file" if path.is_dir() else f"there is no file {path}"
        raise ValueError(f"{found}{instead}")


def load_json(path: Path) -> Any:
    """What a JSON file holds; raises `ValueError` where it is missing or is not JSON."""
    check_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON, which is text in UTF-8: give another file") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        ValueError: the file is missing, is not JSON, or holds something else than an object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, but must hold a JSON object")
    return content


def json_file(content: dict) -> bytes:
    """What a JSON file of a checkpoint holds, as transformers indents it."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
