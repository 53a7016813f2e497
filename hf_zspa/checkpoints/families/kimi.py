"""Kimi K2.5, whose visual tokens are merged patches of the whole image and of what it is padded with."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows


def _merge(config: Config) -> Sequence[int]:
    return (config.get("vision_config") or {}).get("merge_kernel_size", (2, 2))


def _kimi(config: Config, size: Sequence[int]) -> Layout:
    """Merged patches over the resized image, padded below and on the right."""
    down, across = _merge(config)
    height, width = size[1] // down, size[2] // across
    return Layout(height * width, (Grid(rows(0, height, width), patches=(size[1], size[2])),))


def _small_and_large(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    patch, merge = (config.get("vision_config") or {}).get("patch_size", 14), _merge(config)
    if not are_sizes(patch, *merge) or merge[0] != merge[1]:
        return []
    sides = [tokens * merge[0] for tokens in (16, 36)]
    return [(f"{side * patch} × {side * patch} pixels", (1, side, side)) for side in sides]


KIMI_K25 = Family(
    "kimi_k25", "Kimi_K25ForConditionalGeneration", ("deepseek_v3", "kimi_k2"), ("kimi_k25_vision",),
    layout=_kimi, typical=_small_and_large, size="image_grid_thw",
    published_as="KimiK25ForConditionalGeneration", needs=("torchvision",),
    image_markers=("<|media_begin|>",),
)  # fmt: skip
