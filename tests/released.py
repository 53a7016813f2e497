"""Checkpoints as 0.1.0 made them, with that version's code."""

import shutil
from pathlib import Path

from hf_zspa.checkpoints.code_files import DIGESTS
from hf_zspa.checkpoints.files import read_json
from hf_zspa.checkpoints.shipped import SHIPPED

RELEASED = Path(__file__).parent / "data" / "0.1.0"
PROMPT = "is the pink sign above or below the cyan circle ?"


def of_0_1_0(name: str, target: Path) -> Path:
    """Config, card and code of 0.1.0; weights, tokenizer and processor of the base."""
    folder = shutil.copytree(SHIPPED[name], target / f"{name}-of-0.1.0")
    shutil.copytree(RELEASED / name, folder, dirs_exist_ok=True)
    for file in read_json(folder / "config.json")[DIGESTS]:
        shutil.copy(RELEASED / "code" / file, folder)
    return folder
