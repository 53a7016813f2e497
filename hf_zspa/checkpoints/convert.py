"""Base checkpoint to zspa checkpoint."""

import json
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import FIELDS, check_fields
from ..version import __version__
from .base import family_of, other_files, read_config, weight_files
from .card import PICTURE, SHIPPED_PICTURE, base_metadata, card, picture_caption
from .chat_template import find_turn_markers, load_tokenizer, read_chat_template, special_token_ids
from .code_files import DIGESTS, VERSION, allowed_position_ids, auto_map, code_digests, code_files
from .families import Family
from .files import Progress, all_or_nothing, check_target, read_json, transfer
from .resolve import checkpoint_folder, local_folder
from .verify import verify_checkpoint

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def convert_checkpoint(
    base: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    link: bool = False,
    revision: str | None = None,
    progress: Progress | None = None,
    **fields: Any,
) -> Path:
    """Writes a checkpoint that prunes its own visual tokens from one that does not.

    Weights are neither loaded nor changed: they are cloned where the file system can, else copied.

    Args:
        base: folder or Hub id of a stock checkpoint of a supported family.
        out: the folder to make. It appears complete, or not at all.
        force: replace `out` if it is not empty.
        link: hard link the weights; whoever writes to those of `out` then changes those of `base`.
        revision: branch, tag or commit of a Hub id.
        progress: called with the bytes of weights done and their total.
        fields: `zspa_*` fields of the config in place of their defaults.

    Returns:
        The folder `out`.

    Raises:
        ValueError: a field, the base or the target is not what it should be, or reading or writing failed, for instance
            because the disk is full; nothing is left behind.
    """
    target = Path(out).expanduser().resolve()
    _check_names(fields)
    check_target(target, force)
    source = _checked_base(base, revision, fields)
    if source == target or source in target.parents or target in source.parents:
        raise ValueError(f"{target} and the base {source} must not be, or be inside, each other")
    stock = read_config(source)
    family = family_of(source, stock)
    weights, others = weight_files(source), other_files(source)
    config = _converted(stock, family, stock_fields(source) | fields)
    repository = None if local_folder(base) else str(base).partition("@")[0]
    metadata = base_metadata(source, repository)
    copied = [*code_files(family), *(source / name for name in others)]
    with all_or_nothing(target) as folder:
        for path in copied:
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / PICTURE).write_bytes(SHIPPED_PICTURE.read_bytes())
        picture = picture_caption(folder / PICTURE)
        text = card(config, target.name, metadata=metadata, picture=picture)
        (folder / "README.md").write_text(text, encoding="utf-8")
        if problems := verify_checkpoint(folder).problems:
            raise ValueError(f"{base} would make a checkpoint that hf-zspa verify does not pass: {problems[0]}")
        _transfer_weights(source, folder, weights, link, progress)
    return target


def read_preset(path: str | Path) -> dict[str, Any]:
    """The fields of a preset: a JSON object of `zspa_*` fields and a "description".

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    preset = read_json(Path(path))
    preset.pop("description", None)
    unknown = sorted(set(preset) - set(FIELDS))
    if unknown:
        raise ValueError(f"{path} has {', '.join(unknown)}, but a preset may have: description, {', '.join(FIELDS)}")
    return preset


def _checked_base(base: str | Path, revision: str | None, fields: dict[str, Any]) -> Path:
    """The folder of a base; of a Hub id, the weights are downloaded only once the rest looks right."""
    family = family_of(folder := checkpoint_folder(base, revision, weights=False), read_config(folder))
    check_fields(fields, allowed_position_ids(family))
    return checkpoint_folder(base, revision)


def _check_names(fields: dict[str, Any]) -> None:
    for name in fields:
        if name not in FIELDS:
            meant = f"did you mean zspa_{name}" if f"zspa_{name}" in FIELDS else f"there are {', '.join(FIELDS)}"
            raise ValueError(f"{name} is not a field of the config; {meant}")


def stock_fields(source: Path) -> dict[str, Any]:
    """The fields of a conversion with defaults, with what is found in the base's tokenizer and chat template."""
    tokenizer = load_tokenizer(source)
    if not any((source / name).is_file() for name in PROCESSOR_FILES):
        raise ValueError(f"{source} has no image processor: none of the files {', '.join(PROCESSOR_FILES)}")
    markers = find_turn_markers(tokenizer, read_chat_template(source))
    found = {"zspa_query_start_ids": markers.start, "zspa_query_end_ids": markers.end}
    return FIELDS | found | {"zspa_special_token_ids": special_token_ids(tokenizer)}


def _converted(config: dict, family: Family, fields: dict[str, Any]) -> dict:
    """The base's config with our classes and fields; every other entry, and the order, stays."""
    ours = {"architectures": [family.model_class, family.stock], "auto_map": auto_map(family)}
    code = {VERSION: __version__, DIGESTS: code_digests(code_files(family))}
    config = config | ours | fields | code
    check_fields(config, allowed_position_ids(family))
    return config


def _transfer_weights(source: Path, folder: Path, names: list[str], link: bool, progress: Progress | None) -> None:
    total = sum((source / name).stat().st_size for name in names)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    for name in names:
        transfer(source / name, folder / name, link, advance)
