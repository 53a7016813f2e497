"""Base checkpoint to zspa checkpoint."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import FIELDS, check_fields, meant_by
from .base import family_of, read_config, weight_files
from .code_files import allowed_position_ids
from .files import Progress, all_or_nothing, check_target, read_json
from .resolve import checkpoint_folder, local_folder, with_weights
from .verify import verify_checkpoint
from .write import check_field_names, write_all_but_weights, write_weights


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
    check_field_names(fields)
    check_target(target, force)
    source = _checked_base(base, revision, fields)
    if source == target or source in target.parents or target in source.parents:
        raise ValueError(f"{target} and the base {source} must not be, or be inside, each other")
    weights = weight_files(source)
    repository = None if local_folder(base) else str(base).partition("@")[0]
    with all_or_nothing(target) as folder:
        write_all_but_weights(source, folder, target.name, fields, repository)
        if problems := verify_checkpoint(folder).problems:
            raise ValueError(f"{base} would make a checkpoint that hf-zspa verify does not pass: {problems[0]}")
        write_weights(source, folder, weights, link, progress)
    return target


def read_preset(path: str | Path) -> dict[str, Any]:
    """The fields of a preset: a JSON object of `zspa_*` fields and a "description".

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    try:
        preset = read_json(Path(path))
    except ValueError as error:
        raise ValueError(f'{error}; a preset is like {{"zspa_method": "weighted", "zspa_keep_ratio": 0.1}}') from error
    preset.pop("description", None)
    for name in sorted(set(preset) - set(FIELDS)):
        meant = meant_by(name) or next(iter(get_close_matches(name, ["description"])), None)
        hint = f"did you mean {meant}?" if meant else f"but a preset may have: description, {', '.join(FIELDS)}"
        raise ValueError(f"{path} has {name}, {hint}")
    return preset


def _checked_base(base: str | Path, revision: str | None, fields: dict[str, Any]) -> Path:
    """The folder of a base; of a Hub id, the weights are downloaded only once the rest looks right."""
    family = family_of(folder := checkpoint_folder(base, revision, weights=False), read_config(folder))
    check_fields(fields, allowed_position_ids(family))
    return with_weights(base, folder)
