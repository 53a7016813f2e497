"""What a checkpoint will do."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import FIELDS, check_fields, check_names
from .base import family_of, is_converted, known_family, read_config
from .chat_template import load_tokenizer
from .code_files import allowed_position_ids
from .families import Family
from .files import BLOCK, Progress
from .resolve import checkpoint_folder
from .verify import verify_checkpoint
from .write import stock_fields


@dataclass(frozen=True)
class FileInfo:
    """A file of a checkpoint: its size in bytes and its digest in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ImageExample:
    """A typical image.

    Attributes:
        visual_tokens: those it has.
        kept: how many of them are kept.
        core: how many of these for their relevance; None where a method does not part them so.
        asked: whether the question plays a part.
    """

    image: str
    visual_tokens: int
    kept: int
    core: int | None
    asked: bool


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint will do.

    Attributes:
        model_type: its family.
        converted: whether it prunes; if not, all fields are those a conversion with defaults would give it.
        fields: the `zspa_*` fields of its config.
        examples: what is kept of typical images; empty where the config does not tell.
        turn_starts, turn_ends: the turn markers as text, one for each sequence of token ids.
        version: of the hf_zspa that wrote it, as its config says; None where it is not converted, or does not say.
        verified: whether its code is that of the installed hf_zspa; None where it is not converted.
        files: its files, by name; None where they were not asked for.
    """

    path: Path
    model_type: str
    converted: bool
    fields: dict[str, Any]
    examples: list[ImageExample]
    turn_starts: list[str]
    turn_ends: list[str]
    version: str | None
    verified: bool | None
    files: list[FileInfo] | None


def inspect_checkpoint(
    checkpoint: str | Path, *, revision: str | None = None, files: bool = False, progress: Progress | None = None
) -> CheckpointInfo:
    """What a checkpoint, or a base that could become one, will do.

    Args:
        checkpoint: folder or Hub id.
        revision: branch, tag or commit of a Hub id.
        files: list its files with sizes and digests, for which all of them are read; of a Hub id, those that are loaded
            are downloaded and listed.
        progress: called with the bytes digested and their total.

    Returns:
        Its fields, turn markers and files.

    Raises:
        ValueError: it is no checkpoint of a supported family, or one of its fields is not allowed.
    """
    folder = checkpoint_folder(checkpoint, revision, weights=files)
    config = read_config(folder)
    converted = is_converted(config)
    if converted:
        family = known_family(folder, config)
        fields = {name: config.get(name, default) for name, default in FIELDS.items()}
    else:
        family = family_of(folder, config)
        fields = stock_fields(folder, family)
    check_names(config)
    check_fields(fields, allowed_position_ids(family))
    tokenizer = load_tokenizer(folder)
    starts, ends = (
        [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in fields[name] or []]
        for name in ("zspa_query_start_ids", "zspa_query_end_ids")
    )
    found = verify_checkpoint(folder) if converted else None
    return CheckpointInfo(
        folder,
        family.model_type,
        converted,
        fields,
        _examples(family, config | fields),
        starts,
        ends,
        found.version if found else None,
        found.passed if found else None,
        _digests(folder, progress) if files else None,
    )


def _examples(family: Family, config: dict[str, Any]) -> list[ImageExample]:
    from ..remote_code.zspa_selection import ZspaPruner  # and torch with it

    pruner, method = ZspaPruner(config["zspa_keep_ratio"], config["zspa_core_ratio"]), config["zspa_method"]
    weighs = method == "mmtok" or config["zspa_relevance_weight"] != 0
    found = []
    for image, n in family.examples(config):
        core = pruner.core(n) if method == "zspa" else None
        asked = pruner.keep_ratio == 1 or bool(weighs if core is None else core)
        found.append(ImageExample(image, n, pruner.budget(n), core, asked))
    return found


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
