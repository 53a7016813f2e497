"""Loads the model and the processor of a checkpoint for evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is loaded; the names are those of the model arguments."""

    device: str | None
    device_map: str | None
    dtype: str
    attn_implementation: str | None
    min_pixels: int | None
    max_pixels: int | None


def load(folder: Path, trusted: bool, settings: Settings) -> tuple[Any, Any]:
    """Model and processor; the checkpoint's own code runs only where `trusted`.

    Raises:
        ValueError: a setting is not allowed, or has no meaning for this checkpoint.
    """
    if settings.dtype not in DTYPES:
        raise ValueError(f"dtype is {settings.dtype!r}, but must be one of {', '.join(DTYPES)}")
    if settings.device and settings.device_map:
        raise ValueError(f"give device ({settings.device}) or device_map ({settings.device_map}), not both")
    processor = _processor(folder)
    _set_pixels(processor, settings)
    options = {
        "trust_remote_code": trusted,
        "dtype": settings.dtype,
        "device_map": settings.device_map,
        "attn_implementation": settings.attn_implementation,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    model = AutoModelForImageTextToText.from_pretrained(folder, **chosen)
    if settings.device_map is None:
        model = model.to(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), processor


def _processor(folder: Path) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(folder)
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        raise ValueError(f"the processor of {folder} needs torchvision: pip install torchvision") from error
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def _set_pixels(processor: Any, settings: Settings) -> None:
    limits = {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
    given = {name: int(value) for name, value in limits.items() if value is not None}
    if not given:
        return
    images = processor.image_processor
    if not hasattr(images, "merge_size"):
        raise ValueError(
            f"min_pixels and max_pixels have no meaning for {type(images).__name__}, which has fixed sizes"
        )
    images.size = {**dict(images.size), **given}
