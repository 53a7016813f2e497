"""Mistral 3, whose visual tokens are merged patches of the whole image; a text token ends each row in the prompt."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows


def _patch(config: Config) -> int:
    """Pixels on a side of what becomes one token; 0 where the config does not tell."""
    vision, merge = config.get("vision_config") or {}, config.get("spatial_merge_size", 2)
    patch = vision.get("patch_size", 14)
    return patch * merge if are_sizes(patch, merge) else 0


def _mistral3(config: Config, size: Sequence[int]) -> Layout:
    """Merged patches over the whole resized image."""
    height, width = (pixels // _patch(config) for pixels in size)
    return Layout(height * width, (Grid(rows(0, height, width)),))


def _small_and_large(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    sides = [tokens * _patch(config) for tokens in (16, 55)]
    return [(f"{side} × {side} pixels", (side, side)) for side in sides if side]


MISTRAL3 = Family(
    "mistral3", "Mistral3ForConditionalGeneration", ("mistral", "ministral3", "mistral4"), ("pixtral",),
    layout=_mistral3, typical=_small_and_large, size="image_sizes", vllm="mistral",
)  # fmt: skip
