"""Which methods a model cannot be measured under, known before any sample is asked."""

from math import isqrt
from typing import Any

from ..checkpoints.families import FAMILIES
from ..pruners.registry import check_method
from .resizing import scales_by_area


def misfit(method: str, model: Any, processor: Any) -> str | None:
    """Why a model cannot be measured under a method, in words that may end a sentence; None where it can.

    "resized" needs images that are scaled, or given as the averages of one square; a method that averages tokens needs
    a language model that gets nothing else of them in later layers.

    Raises:
        ValueError: there is no such method.
    """
    kind = model.config.model_type
    if method == "resized":
        if scales_by_area(processor) or _sees_one_square(model):
            return None
        return f"'resized' is for models that scale images by area or see one square, not for {kind}"
    averages = getattr(check_method(method).pruner, "merges", False)
    if averages and getattr(model.config.vision_config, "deepstack_visual_indexes", None):
        return f"{method!r} averages visual tokens, and {kind} has DeepStack, whose features of them cannot be averaged"
    return None


def check_fit(method: str, model: Any, processor: Any) -> None:
    """Raises `ValueError` for a method that a model cannot be measured under."""
    if reason := misfit(method, model, processor):
        raise ValueError(f"{reason}: leave this method out")


def _sees_one_square(model: Any) -> bool:
    family, config = FAMILIES[model.config.model_type], model.config.to_dict()
    counts = [count for _, count in family.examples(config)] if family.has_one_size(config) else []
    return model.model.images_are == "entries" and bool(counts) and isqrt(counts[0]) ** 2 == counts[0]
