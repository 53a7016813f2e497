"""What a checkpoint will do."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import FIELDS, check_fields, check_names
from .base import family_of, is_converted, known_family, read_config
from .card.savings import image_examples
from .chat_template import load_tokenizer
from .code_files import allowed_position_ids
from .files import BLOCK, Progress
from .resolve import checkpoint_folder
from .write import stock_fields


@dataclass(frozen=True)
class FileInfo:
    """A file of a checkpoint: its size in bytes and its digest in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint will do.

    Attributes:
        model_type: its family.
        converted: whether it prunes; if not, all fields are those a conversion with defaults would give it.
        fields: the `zspa_*` fields of its config.
        examples: typical images, the visual tokens that the model makes of them, and how many are kept; none where the
            config does not tell.
        turn_starts, turn_ends: the turn markers as text, one for each sequence of token ids.
        files: its files, by name.
    """

    path: Path
    model_type: str
    converted: bool
    fields: dict[str, Any]
    examples: list[tuple[str, int, int]]
    turn_starts: list[str]
    turn_ends: list[str]
    files: list[FileInfo]


def inspect_checkpoint(
    checkpoint: str | Path, *, revision: str | None = None, progress: Progress | None = None
) -> CheckpointInfo:
    """What a checkpoint, or a base that could become one, will do.

    Args:
        checkpoint: folder or Hub id.
        revision: branch, tag or commit of a Hub id.
        progress: called with the bytes digested and their total.

    Returns:
        Its fields, turn markers and files.

    Raises:
        ValueError: it is no checkpoint of a supported family, or one of its fields is not allowed.
    """
    folder = checkpoint_folder(checkpoint, revision)
    config = read_config(folder)
    converted = is_converted(config)
    if converted:
        family = known_family(folder, config)
        fields = {name: config.get(name, default) for name, default in FIELDS.items()}
    else:
        family = family_of(folder, config)
        fields = stock_fields(folder)
    check_names(config)
    check_fields(fields, allowed_position_ids(family))
    tokenizer = load_tokenizer(folder)
    starts, ends = (
        [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in fields[name] or []]
        for name in ("zspa_query_start_ids", "zspa_query_end_ids")
    )
    examples = image_examples(config | fields)
    return CheckpointInfo(
        folder, family.model_type, converted, fields, examples, starts, ends, _digests(folder, progress)
    )


def _digests(folder: Path, progress: Progress | None) -> list[FileInfo]:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    total, done, found = sum(path.stat().st_size for path in paths), 0, []
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
        found.append(FileInfo(path.name, path.stat().st_size, digest.hexdigest()))
    return found
