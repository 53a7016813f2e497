"""Digests of what a measurement depends on: the files of a checkpoint or a data set, and the code that measures."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..checkpoints.file_policy import STOCK

PACKAGE = Path(__file__).parents[1]
CHECKPOINT_SUFFIXES = (*STOCK, ".py")
DATA_SUFFIXES = (".parquet", ".arrow", ".json", ".md")
# What decides a score: the methods that do not travel in a checkpoint, how they are run, the embedded questions.
MEASURING = (
    "checkpoints/families/*.py",
    "evaluation/benchmarks.py",
    "evaluation/lmms_tasks.py",
    "evaluation/counting.py",
    "evaluation/lmms_model.py",
    "evaluation/loading.py",
    "evaluation/requests.py",
    "evaluation/resizing.py",
    "evaluation/scenes_task.py",
    "evaluation/scoring.py",
    "evaluation/sweep.py",
    "evaluation/tasks/*",
    "loading.py",
    "models/given.py",
    "pruners/*.py",
    "remote_code/zspa_*.py",
    "scenes/*.py",
)
_WHOLE = 1 << 26  # files up to 64 MiB are read whole
_BLOCK = 1 << 12
_SPREAD = 512  # blocks that stand for a large file of no known layout


def folder_digests(folder: Path, suffixes: tuple[str, ...] = CHECKPOINT_SUFFIXES) -> dict[str, str]:
    """The digest of each file below `folder` with one of the suffixes, by its path there; what is hidden is no part of
    it."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix in suffixes)
    shown = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return {path.as_posix(): file_digest(folder / path) for path in shown}


def source_digests() -> dict[str, str]:
    """The digest of each source file of this package that decides a score, by its path."""
    paths = (path for pattern in MEASURING for path in sorted(PACKAGE.glob(pattern)) if path.is_file())
    return {f"hf_zspa/{path.relative_to(PACKAGE).as_posix()}": file_digest(path) for path in paths}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of what stands for a large one: its size, the header and the ends and middle of each tensor
    of a safetensors file, and evenly spread blocks of another. So 15 GB of weights take a second, and a change to any
    single tensor shows.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            return hashlib.sha256(file.read()).hexdigest()
        digest = hashlib.sha256(f"{size} ".encode())
        for start in _tensor_blocks(file, digest) if path.suffix == ".safetensors" else _spread_blocks(size):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def combined(digests: dict[str, Any]) -> str:
    """One digest of several, or of anything that JSON can write."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _tensor_blocks(file: Any, digest: Any) -> Iterator[int]:
    """Where the first, the middle and the last block of each tensor start; the header goes into the digest."""
    length = int.from_bytes(file.read(8), "little")
    header = file.read(length)
    digest.update(header)
    for name, tensor in json.loads(header).items():
        if name != "__metadata__":
            first, end = (8 + length + offset for offset in tensor["data_offsets"])
            yield from sorted({first, max(first, (first + end) // 2), max(first, end - _BLOCK)})


def _spread_blocks(size: int) -> Iterable[int]:
    return [*range(0, size, max(_BLOCK, size // _SPREAD)), size - _BLOCK]
