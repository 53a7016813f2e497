"""Files that are no pictures, or too large ones, and what is said of each."""

import io
import struct
import zlib

from PIL import Image

from hf_zspa.scenes import EXAMPLES

PICTURE = EXAMPLES / "relation.png"


def png(width: int, height: int, data: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG of this size whose pixels are `data`, as far as there are any."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff(mode: str) -> bytes:
    """A TIFF with pixels of this mode."""
    file = io.BytesIO()
    Image.new(mode, (8, 8), 1).save(file, "TIFF")
    return file.getvalue()


PICTURES = {
    "huge": (png(20_000, 20_000), "too large a picture"),
    "large": (png(10_000, 10_000), "not an image that can be read"),  # as many pixels as Pillow warns of
    "cut": (PICTURE.read_bytes()[: PICTURE.stat().st_size // 2], "not an image that can be read"),
    "odd": (png(8, 8, bits=3), "not an image that can be read"),
    "text": (b"no picture", "not an image that can be read"),
    "float": (tiff("F"), "numbers of mode F do not say what is white: save it as a PNG of 8 or 16 bits"),
    "32 bits": (tiff("I"), "numbers of mode I do not say what is white: save it as a PNG of 8 or 16 bits"),
    "empty": (b"", "not an image that can be read"),
}
