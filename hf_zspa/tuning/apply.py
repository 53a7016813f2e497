"""What was chosen, written into a checkpoint: the fields of its `config.json`, and a line in its card."""

import os
import time
from pathlib import Path

from ..checkpoints.base import is_converted, known_family, read_config
from ..checkpoints.card import TUNED, read_card, refreshed_card
from ..checkpoints.code_files import allowed_position_ids
from ..checkpoints.files import json_file
from ..checkpoints.resolve import SHIPPED
from ..output import replace_file
from ..remote_code.zspa_config import check_fields, check_names
from .tune import Tuning

CARD = "README.md"


def check_target(checkpoint: str) -> Path:
    """The folder of a checkpoint to write into; raises `ValueError` where it is none, or cannot be written to."""
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir() or checkpoint in SHIPPED:
        raise ValueError(
            f"--apply writes into a folder, and {checkpoint} is none: fetch or convert it into one, and tune that"
        )
    if not is_converted(read_config(folder)):
        raise ValueError(
            f"--apply writes into a zspa checkpoint, and {checkpoint} is a base: convert it, and tune that"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--apply writes into {folder}, where you may not write: leave it out, or tune a copy")
    return folder.resolve()


def apply(folder: Path, tuning: Tuning) -> bool:
    """Writes what was chosen into a checkpoint's folder; whether its card says so.

    Raises:
        ValueError: a field is not allowed, or the card cannot be read. Nothing is written.
        OSError: a file cannot be written; it is as it was.
    """
    config = read_config(folder) | tuning.fields
    check_names(config)
    check_fields(config, allowed_position_ids(known_family(folder, config)))
    readme, card, line = folder / CARD, None, said(tuning)
    if readme.is_file():
        # Without its picture: what that shows was kept by other settings.
        card = refreshed_card(read_card(readme.read_bytes(), str(readme)), config, folder.name, tuned=line)
    replace_file(folder / "config.json", json_file(config))
    if card is not None:
        replace_file(readme, card.encode())
    return card is not None and line in card


def said(tuning: Tuning) -> str:
    """One line about what was found, on what and when."""
    chosen = tuning.chosen
    if chosen is None:
        raise ValueError("no keep ratio reaches the aim: nothing is to be applied")
    fields = ", ".join(f"`{name}` {value}" for name, value in tuning.fields.items())
    return (
        f"{TUNED} on {time.strftime('%Y-%m-%d')}, with {len(tuning.measured.tokens)} rows of its owner's: at {fields}, "
        f"{chosen.stay} of {chosen.rows} answers are, whole, those given without pruning, so at least "
        f"{100 * chosen.bound:.1f} % with 95 % confidence (the aim: {100 * tuning.agreement:g} %); the settings were "
        "chosen on the other rows."
    )
