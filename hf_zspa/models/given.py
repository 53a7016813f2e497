"""What a model is given: pictures, questions about them and a dtype, checked before torch is imported."""

import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..checkpoints.files import check_file
from ..scenes import EXAMPLES

DTYPES = ("auto", "float32", "bfloat16", "float16")  # "auto" is as stored


def check_dtype(name: str, asked: str = "dtype") -> None:
    """Raises `ValueError` where a dtype is none of `DTYPES`; `asked` is what the message calls the argument."""
    if name not in DTYPES:
        raise ValueError(f"{asked} is {name!r}, but must be one of {', '.join(DTYPES)}")


def check_prompt(prompt: str, name: str = "the prompt") -> None:
    """Raises `ValueError` where a prompt is empty or is no valid Unicode; `name` is what the message calls it."""
    if not prompt.strip():
        raise ValueError(f"{name} is empty: ask something, for example 'what colour is the star?'")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise ValueError(
            f"{name} is {prompt!r}, which is not valid UTF-8: write it in UTF-8, which a terminal must be set to"
        )


def open_image(path: str | Path) -> Image.Image:
    """The image in a file, as RGB and the right way up.

    Raises:
        ValueError: there is no such file, or it is no image that Pillow reads, or too large a one, or as `as_rgb`.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, but must be an image file: name one in it")
    if not Path(path).is_file():
        raise ValueError(f"there is no image file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many pixels are an error
            opened = Image.open(path)
            image = ImageOps.exif_transpose(opened)
            if image.mode == "I" and opened.format in ("PNG", "PPM"):  # whose 16 bits Pillow may read as 32
                image = image.convert("I;16")
            return as_rgb(image)
    except (Image.DecompressionBombError, MemoryError) as error:
        reason = str(error).partition(", could be")[0] or "there is not enough memory"
        raise ValueError(f"{path} is too large a picture ({reason}): make it smaller") from error
    except Exception as error:  # a reader of Pillow raises whatever it meets in a damaged file
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not an image that can be read: {reason}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB, with 16 bits of grey scaled to 8 as a browser shows them: Pillow cuts them off at 255.

    Raises:
        ValueError: it has floating-point or 32-bit numbers, which do not say what is white.
    """
    if image.mode in ("F", "I"):
        raise ValueError(f"numbers of mode {image.mode} do not say what is white: save it as a PNG of 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def read_pairs(path: Path | None, limit: int | None = None, asked: str = "question") -> list[tuple[Path, str]]:
    """Images and questions about them; `asked` is what lines call a question.

    Raises:
        ValueError: a line is not an object with `image` and a question, both texts, or there is none.
    """
    if path is None:
        examples = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
        return [(EXAMPLES / example["file"], example["question"]) for example in examples][:limit]
    line_like = f'{{"image": "a.png", "{asked}": "what is it?"}}'
    check_file(path, f": give JSON Lines such as {line_like}, a picture with a question about it in each")
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid UTF-8 ({error}): save it as UTF-8") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            pair = json.loads(line)
            found.append((path.parent / pair["image"], pair[asked]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {path} is {line!r}, but must be like {line_like}") from error
        if not isinstance(pair[asked], str):
            raise ValueError(
                f"the {asked} in line {number} of {path} is {json.dumps(pair[asked])}, but must be a text, such as "
                '"what is it?"'
            )
        check_prompt(pair[asked], f"the {asked} in line {number} of {path}")
    if not found:
        raise ValueError(f"{path} has no image-question pairs")
    return found[:limit]
