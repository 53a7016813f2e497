"""The pictures that rows are about, and what they are known by; torch is not needed for it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..models.given import as_rgb, open_image

Row = tuple[str | Path | Image.Image, str]


def digests(rows: Sequence[Row]) -> list[str]:
    """Of each row's image, the same for the same picture under any name. One is held at a time.

    Raises:
        ValueError: one cannot be read.
    """
    return [digest_of_image(opened(picture)) for picture, _ in rows]


def opened(picture: str | Path | Image.Image) -> Image.Image:
    return as_rgb(picture) if isinstance(picture, Image.Image) else open_image(picture)


def digest_of_image(image: Image.Image) -> str:
    return digest_of(str(image.size).encode(), image.tobytes())


def digest_of(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]
