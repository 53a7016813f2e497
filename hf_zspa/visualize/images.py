"""Pictures that a user names, to read or to write."""

import os
from pathlib import Path

from PIL import Image


def output_file(path: str | Path) -> Path:
    """`path` as a file to write a picture to; raises `ValueError` where that cannot work."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a picture in it, such as {path / 'kept.png'}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path.name} does not end like a picture: name it {path.stem}.png")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: choose a place that you may write to")
    return path
