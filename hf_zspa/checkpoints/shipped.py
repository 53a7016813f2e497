"""The converted checkpoints that have a name of their own: made of the package's small models at their first use."""

import hashlib
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants

from ..scenes import CHECKPOINT, PHOTO_CHECKPOINT, QWEN_CHECKPOINT
from ..version import __version__
from .base import family_of, other_files, read_config, weight_files
from .code_files import code_files
from .write import write_all_but_weights, write_weights

SHIPPED = {  # and what each is made of
    "embedded": CHECKPOINT,
    "embedded-qwen": QWEN_CHECKPOINT,
    "embedded-photo": PHOTO_CHECKPOINT,
}
UNUSED = 7 * 24 * 3600  # seconds after which a copy makes room


def shipped_checkpoint(name: str) -> Path:
    """The folder of a shipped checkpoint, in Hugging Face's cache of assets: `HF_ASSETS_CACHE`, else in `HF_HOME`.

    It is known by the version and by the digest of all that it is made of and with, so that none is ever out of date.
    Processes that make it at once each make their own, and the first one stays. There is no other place for it where
    the cache cannot be written to: then transformers cannot load its code either.

    Args:
        name: one of `SHIPPED`.

    Raises:
        ValueError: it cannot be written.
    """
    base = SHIPPED[name]
    code = code_files(family_of(base, read_config(base)))
    names = ("config.json", "README.md", *other_files(base), *weight_files(base))
    parts = [*code, *(base / name for name in names)]
    cache = Path(constants.HF_ASSETS_CACHE).expanduser().resolve()
    folder = cache / "hf_zspa" / __version__ / _digest(parts) / name
    if _is_whole(folder, parts):
        with suppress(OSError):
            folder.parent.touch()  # it is in use
    else:
        _clean(cache / "hf_zspa")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(base, folder, parts)
        except OSError as error:
            raise ValueError(
                f"{name} is converted at its first use, but {cache} cannot be written to ({error.strerror or error}): "
                "set HF_HOME, or HF_ASSETS_CACHE, to a folder that can"
            ) from error
    return folder


def _clean(place: Path) -> None:
    """Removes what nobody has used for a week: copies with other code, and what a process that was killed left."""
    for old in (*place.glob("*/*"), *place.glob("*/*/.*")):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > UNUSED:
                shutil.rmtree(old, ignore_errors=True)


def _digest(parts: list[Path]) -> str:
    """Of what a checkpoint is made of, and of the code that makes it."""
    here = Path(__file__).parent
    converter = [*sorted(here.rglob("*.py")), here.with_name("version.py")]
    digest = hashlib.sha256()
    for path in [*parts, *converter]:
        digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _is_whole(folder: Path, parts: list[Path]) -> bool:
    """A cleaner of caches may have taken some of its files away, and a machine that stopped may have cut some short."""
    return all((folder / path.name).is_file() and _is_long_enough(folder / path.name, path) for path in parts)


def _is_long_enough(file: Path, part: Path) -> bool:
    """Whether it has the size of what it was copied from; config and card were added to, or written anew."""
    copied = part.name not in ("config.json", "README.md")
    return file.stat().st_size == part.stat().st_size if copied else file.stat().st_size > 0


def _make(base: Path, folder: Path, parts: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as beside:
        fresh = Path(beside, folder.name)
        fresh.mkdir()
        write_all_but_weights(base, fresh, folder.name)
        write_weights(base, fresh, weight_files(base))
        if folder.exists() and not _is_whole(folder, parts):
            with suppress(FileNotFoundError):  # another process has just taken it away
                folder.rename(Path(beside, "incomplete"))
        try:
            fresh.rename(folder)
        except OSError:  # another process was first
            if not _is_whole(folder, parts):
                raise
