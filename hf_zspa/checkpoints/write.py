"""From the folder of a base to the files of a converted checkpoint; where they go is the caller's business."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import FIELDS, check_fields, check_names, meant_by
from .base import family_of, other_files, read_config
from .card import base_metadata, write_card
from .chat_template import find_turn_markers, load_tokenizer, marker_ids, read_chat_template, special_token_ids
from .code_files import allowed_position_ids, code_entries, code_files
from .families import Family
from .files import Progress, json_file, transfer

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def write_all_but_weights(
    source: Path, folder: Path, name: str, fields: dict[str, Any] | None = None, repository: str | None = None
) -> None:
    """Fills an empty folder with the config, code, card, tokenizer and processor of a converted checkpoint.

    Args:
        source: the folder of a stock checkpoint of a supported family.
        name: what the card calls the checkpoint.
        fields: `zspa_*` fields of the config in place of their defaults.
        repository: the base on the Hub.

    Raises:
        ValueError: a field, or the base, is not what it should be.
    """
    stock = read_config(source)
    family = family_of(source, stock)
    config = _converted(stock, family, stock_fields(source, family) | (fields or {}))
    for path in [*code_files(family), *(source / name for name in other_files(source))]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_bytes(json_file(config))
    text = write_card(config, name, metadata=base_metadata(source, repository))
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_weights(
    source: Path, folder: Path, names: list[str], link: bool = False, progress: Progress | None = None
) -> None:
    """Clones the weights of a base where the file system can, else copies them; on request they are hard linked.

    Args:
        names: of the files of weights.
        progress: called with the bytes done and their total.
    """
    total = sum((source / name).stat().st_size for name in names)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    for name in names:
        transfer(source / name, folder / name, link, advance)


def stock_fields(source: Path, family: Family) -> dict[str, Any]:
    """The fields of a conversion with defaults, with what is found in the base's tokenizer and chat template."""
    tokenizer = load_tokenizer(source)
    if not any((source / name).is_file() for name in PROCESSOR_FILES):
        raise ValueError(f"{source} has no image processor: none of the files {', '.join(PROCESSOR_FILES)}")
    return fields_found(family, tokenizer, read_chat_template(source))


def fields_found(family: Family, tokenizer, chat_template: str | dict[str, str] | None) -> dict[str, Any]:
    """The fields of a conversion with defaults, with what is found in a fast tokenizer and a chat template."""
    if isinstance(chat_template, dict):  # several by name
        chat_template = chat_template.get("default")
    markers = find_turn_markers(tokenizer, chat_template)
    found: dict[str, Any] = {"zspa_query_start_ids": markers.start, "zspa_query_end_ids": markers.end}
    if family.image_markers:
        found["zspa_image_marker_ids"] = marker_ids(tokenizer, family.image_markers, family.image_opener)
    special = special_token_ids(tokenizer, (*family.image_markers, *family.image_closers, family.image_opener))
    return FIELDS | found | {"zspa_special_token_ids": special}


def check_field_names(fields: Iterable[str]) -> None:
    """Raises `ValueError` where one of the names given is none of a field of the config."""
    for name in fields:
        if name not in FIELDS:
            meant = meant_by(name)
            hint = f"did you mean {meant}?" if meant else f"there are {', '.join(FIELDS)}"
            raise ValueError(f"{name} is not a field of the config; {hint}")


def _converted(config: dict, family: Family, fields: dict[str, Any]) -> dict:
    """The base's config with our classes and fields; every other entry, and the order, stays."""
    config = config | fields | code_entries(family)
    check_names(config)  # which may be misspelt in the base's, too, and would be refused when it is loaded
    check_fields(config, allowed_position_ids(family))
    return config
