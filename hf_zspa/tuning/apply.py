"""What was chosen, written into a checkpoint: the fields of its `config.json`, and a line in its card."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.base import is_converted, known_family, read_config
from ..checkpoints.card import TUNED, read_card, refreshed_card
from ..checkpoints.code_files import allowed_position_ids
from ..checkpoints.files import json_file
from ..checkpoints.resolve import SHIPPED
from ..output import replace_files
from ..remote_code.zspa_config import check_fields, check_names

if TYPE_CHECKING:
    from .tune import Tuning

CARD = "README.md"


def check_target(checkpoint: str) -> Path:
    """The folder of a checkpoint to write into; raises `ValueError` where it is none or cannot be written to, or its
    card cannot be read."""
    folder = Path(checkpoint).expanduser()
    if checkpoint in SHIPPED:
        base, made = SHIPPED[checkpoint], f"my-{checkpoint}"
        raise ValueError(
            f"--apply writes into a folder, and {checkpoint} is none: hf-zspa convert {base} {made} makes one to tune"
        )
    if not folder.is_dir():
        raise ValueError(
            f"--apply writes into a folder, and {checkpoint} is none: fetch or convert it into one, and tune that"
        )
    if not is_converted(read_config(folder)):
        raise ValueError(
            f"--apply writes into a zspa checkpoint, and {checkpoint} is a base: convert it, and tune that"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--apply writes into {folder}, where you may not write: leave it out, or tune a copy")
    _card(folder)
    return folder.resolve()


def apply(folder: Path, tuning: "Tuning") -> bool:
    """Writes what was chosen into a checkpoint's folder; whether its card says so.

    Raises:
        ValueError: a field is not allowed, or the card cannot be read. Nothing is written.
        OSError: a file cannot be written; both are as they were.
    """
    config = read_config(folder) | tuning.fields
    check_names(config)
    check_fields(config, allowed_position_ids(known_family(folder, config)))
    card, line, files = _card(folder), said(tuning), {folder / "config.json": json_file(config)}
    if card is not None:
        # Without its picture: what that shows was kept by other settings.
        card = refreshed_card(card, config, folder.name, tuned=line)
        files[folder / CARD] = card.encode()
    replace_files(files)
    return card is not None and line in card


def _card(folder: Path) -> str | None:
    path = folder / CARD
    return read_card(path.read_bytes(), str(path)) if path.is_file() else None


def said(tuning: "Tuning") -> str:
    """One line about what was found, on what and when."""
    chosen = tuning.chosen
    if chosen is None:
        raise ValueError("no keep ratio reaches the aim: nothing is to be applied")
    fields = ", ".join(f"`{name}` {value}" for name, value in tuning.fields.items())
    about, each, others = "", "", "other rows"
    if tuning.shared:
        about, each = f"about {tuning.pictures} pictures ", "about as many pictures "
        others = "rows about the other pictures"
    return (
        f"{TUNED} on {time.strftime('%Y-%m-%d')}, with {len(tuning.measured.tokens)} rows {about}of its owner's: "
        f"at {fields}, {chosen.stay} of {chosen.rows} answers {each}are, whole, those given without pruning, so at "
        f"least {100 * chosen.bound:.1f} % with 95 % confidence (the aim: {100 * tuning.agreement:g} %); the settings "
        f"were chosen on the {others}."
    )
