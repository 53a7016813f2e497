"""Loads the model and the processor of a checkpoint for evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..loading import load_model, load_processor, usable_device
from ..models.given import check_dtype


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is loaded; the names are those of the model arguments."""

    device: str | None = None
    device_map: str | None = None
    dtype: str = "auto"
    attn_implementation: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


def load(folder: Path, trusted: bool, settings: Settings) -> tuple[Any, Any]:
    """Model and processor; the checkpoint's own code runs only where `trusted`.

    Raises:
        ValueError: a setting is not allowed, or has no meaning for this checkpoint.
    """
    check_dtype(settings.dtype)
    if settings.device and settings.device_map:
        raise ValueError(f"give device ({settings.device}) or device_map ({settings.device_map}), not both")
    device = usable_device(settings.device)
    processor = load_processor(folder)
    _pad_left(processor.tokenizer)
    _set_pixels(processor, settings)  # before the weights, which take minutes
    model = load_model(
        folder,
        trusted=trusted,
        device=None if settings.device_map else device,
        dtype=settings.dtype,
        device_map=settings.device_map,
        attn_implementation=settings.attn_implementation,
    )
    return model, processor


def _pad_left(tokenizer: Any) -> None:
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _set_pixels(processor: Any, settings: Settings) -> None:
    """Bounds the area that images, and the frames of videos, are scaled to.

    Raises:
        ValueError: the processor does not scale by area, or there is no area within the bounds.
    """
    smallest, largest = settings.min_pixels, settings.max_pixels
    if smallest is None and largest is None:
        return
    images = processor.image_processor
    if not bounds_area(images):
        raise ValueError(f"min_pixels and max_pixels have no meaning for {type(images).__name__}, which bounds no area")
    if min(value for value in (smallest, largest) if value is not None) < 1:
        raise ValueError(f"min_pixels is {smallest} and max_pixels {largest}, but an area is at least 1")
    if smallest is not None and largest is not None and smallest > largest:
        raise ValueError(f"min_pixels is {smallest}, but must not be above max_pixels, which is {largest}")
    for each in (images, getattr(processor, "video_processor", None)):
        if each is not None:
            bound_area(each, smallest, largest)


def bounds_area(processor: Any) -> bool:
    """Whether a processor scales images to an area within bounds."""
    return hasattr(processor, "merge_size") and "shortest_edge" in dict(processor.size)


def bound_area(processor: Any, smallest: int | None, largest: int | None) -> None:
    """Sets the bounds that are given; the processor's own bound on the other side makes room for them."""
    size = dict(processor.size)
    smallest = min(size["shortest_edge"], largest or size["shortest_edge"]) if smallest is None else smallest
    largest = max(size["longest_edge"], smallest) if largest is None else largest
    processor.size = {**size, "shortest_edge": smallest, "longest_edge": largest}
    for name, value in (("min_pixels", smallest), ("max_pixels", largest)):  # transformers 4 looks there first
        if hasattr(processor, name):
            setattr(processor, name, value)
