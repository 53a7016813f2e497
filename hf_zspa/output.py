"""Results for people: their tables, and where they and pictures go, which is checked before any work and written beside
what is there, whose place it takes."""

import errno
import io
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def replace_file(path: Path, content: bytes) -> None:
    """`replace_files` of one."""
    replace_files({path: content})


def replace_files(contents: dict[Path, bytes]) -> None:
    """Puts new files in the places of these paths, once all of them are written: what a path was a link to, or another
    name of, stays as it is.

    Raises:
        OSError: one cannot be written, of which the error names the path; then all are as they were.
    """
    fresh: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent, delete=False) as file:
                fresh[path] = Path(file.name)
                file.write(content)
            fresh[path].chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        for path in fresh:
            fresh[path].replace(path)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; what was there is unchanged", str(path)) from error
    finally:
        for written in fresh.values():
            written.unlink(missing_ok=True)


def _umask() -> int:
    """What the user wants new files not to permit, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def output_folder(path: Path) -> Path:
    """`path` as a folder to write into, made if need be; raises `ValueError` where that cannot work."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output {path} is a file: give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"--output {path} cannot be written to: choose a place that you may write to")
    return path


def check_output(path: Path) -> None:
    """`output_folder`, of which nothing stays that was made here: there may be nothing to write in the end."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        output_folder(path)
    finally:
        with suppress(OSError):  # it was not made, or has something in it
            for folder in missing:
                folder.rmdir()


def picture_file(path: str | Path) -> Path:
    """`path` as a file to write a picture to, in a folder that is made then; raises `ValueError` where that cannot
    work."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a picture in it, such as {path / 'kept.png'}")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is a file, so that there can be no {path}: choose another place")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{path.name} does not end like a picture: name it {path.stem}.png")
    if not all(os.access(place, os.W_OK) for place in (above, path) if place.exists()):
        raise ValueError(f"{path} cannot be written: choose a place that you may write to")
    return path


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture in the format that `path` ends like; raises `OSError`, and changes nothing, where it cannot."""
    content = io.BytesIO()
    picture.save(content, Image.registered_extensions()[path.suffix.lower()])
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.getvalue())


def save_plot(figure: "Figure", path: Path) -> None:
    """Writes matplotlib's figure as PNG; raises `OSError` where it cannot, and `path` is as it was."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    replace_file(path, content.getvalue())


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells as they stand; it ends without a newline.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    head, *body = [list(line) for line in (header, *rows)]
    for row in body:
        if len(row) != len(head):
            raise ValueError(f"a row has {len(row)} cells, but the header {len(head)}: {row}")
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def with_table(page: str, name: str, text: str) -> str:
    """A page with this text between the marks `<!-- table NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- table {name} -->\n", "<!-- end -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"the page has no {begin.strip()} with <!-- end --> behind it")
    return f"{before}{begin}{text}\n{rest[rest.index(end) :]}"
