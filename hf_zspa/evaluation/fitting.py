"""Which methods a model cannot be measured under, known before any sample is asked."""

from typing import Any

from ..pruners.registry import check_method
from .resizing import scales_by_area, square


def misfit(method: str, model: Any, processor: Any) -> str | None:
    """Why a model cannot be measured under a method, in words that may end a sentence; None where it can.

    "resized" needs images that are scaled, or seen in squares, whose features are averaged; a method that averages
    tokens needs a language model that gets nothing else of them in later layers.

    Raises:
        ValueError: there is no such method.
    """
    kind = model.config.model_type
    if method == "resized":
        if scales_by_area(processor) or square(model.config):
            return None
        return f"'resized' is for models that scale images by area or see them in squares, not for {kind}"
    averages = getattr(check_method(method).pruner, "merges", False)
    if averages and getattr(model.config.vision_config, "deepstack_visual_indexes", None):
        return f"{method!r} averages visual tokens, and {kind} has DeepStack, whose features of them cannot be averaged"
    return None


def check_fit(method: str, model: Any, processor: Any) -> None:
    """Raises `ValueError` for a method that a model cannot be measured under."""
    if reason := misfit(method, model, processor):
        raise ValueError(f"{reason}: leave this method out")
