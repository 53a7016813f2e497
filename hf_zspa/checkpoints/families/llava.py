"""LLaVA, LLaVA-NeXT and LLaVA-OneVision."""

from collections.abc import Sequence
from math import sqrt

from .record import Config, Family, Grid, Layout, are_sizes, rows

# A LLaVA is made of any two models of transformers, and some of these load models, code or pickled files themselves.
# Here are those that published LLaVAs are made of; none of them loads anything.
_TEXT = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "granite")

_VISION = ("clip_vision_model", "siglip_vision_model")


def _square(config: Config) -> tuple[int, int]:
    """Patches per side of what the vision tower sees at a time, and the class tokens that come before them."""
    vision = config["vision_config"]
    has_class_token = vision.get("model_type", "clip_vision_model") == "clip_vision_model"
    keeps_it = config.get("vision_feature_select_strategy") == "full"
    return vision["image_size"] // vision["patch_size"], int(has_class_token and keeps_it)


def _has_any_size(config: Config) -> bool:
    """Whether an image keeps its shape, as for Pixtral's tower."""
    return (config.get("vision_config") or {}).get("model_type") == "pixtral"


def _llava(config: Config, size: Sequence[int]) -> Layout:
    """A square of patches over the resized and cropped image, or rows of them over one that keeps its shape."""
    if _has_any_size(config):
        lines, columns = (pixels // config["vision_config"]["patch_size"] for pixels in size)
        return Layout(lines * columns, (Grid(rows(0, lines, columns)),))
    side, before = _square(config)
    return Layout(before + side * side, (Grid(rows(before, side, side), cropped=True, fixed=True),))


def _any_image(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    if not are_sizes(vision.get("image_size"), vision.get("patch_size")):
        return []
    side = vision["image_size"]
    return [(f"{side} × {side} pixels", (side, side))] if _has_any_size(config) else [("any", ())]


# What transformers' config class fills in.
_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def _unpadded(config: Config, size: Sequence[int], side: int) -> tuple[int, int]:
    """Rows and columns of patches in the tiles of an image, without their padding.

    Which tiles, and what of them is padding, is what transformers' `select_best_resolution` and `unpad_image` say.
    """
    height, width = size

    def fit(tiles: Sequence[int]) -> tuple[int, int]:
        scale = min(tiles[1] / width, tiles[0] / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        return used, used - tiles[0] * tiles[1]

    best = max(config.get("image_grid_pinpoints") or _PINPOINTS, key=fit)
    lines, columns = (pixels // config["vision_config"]["image_size"] * side for pixels in best)
    if width / height > columns / lines:
        lines -= (lines - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (lines / height), 7))) // 2 * 2
    return lines, columns


def _whole_and_tiles(before: int, side: int, lines: int, columns: int) -> Layout:
    """The whole image, then its tiles with a newline token after each row."""
    whole = before + side * side
    grids = [
        Grid(rows(before, side, side), "whole image", fixed=True),
        Grid(rows(whole, lines, columns, gap=1), "tiles"),
    ]
    return Layout(whole + lines * (columns + 1), tuple(grids if lines * columns else grids[:1]))


def _llava_next(config: Config, size: Sequence[int]) -> Layout:
    side, before = _square(config)
    return _whole_and_tiles(before, side, *_unpadded(config, size, side))


def _llava_onevision(config: Config, size: Sequence[int]) -> Layout:
    """As in LLaVA-NeXT, with many tiles scaled down to the area of as many as the config names."""
    side, before = _square(config)
    lines, columns = _unpadded(config, size, side)
    most = int(config.get("vision_aspect_ratio", "anyres_max_9").removeprefix("anyres_max_"))
    ratio = sqrt(lines * columns / (most * side**2))
    if ratio > 1.1:
        lines, columns = int(lines // ratio), int(columns // ratio)
    return _whole_and_tiles(before, side, lines, columns)


def _four_tiles(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    side = 2 * config["vision_config"]["image_size"] if _any_image(config) else 0
    return [(f"{side} × {side} pixels", (side, side))] if side else []


LLAVA = Family(
    "llava", "LlavaForConditionalGeneration", _TEXT, (*_VISION, "pixtral"),
    layout=_llava, typical=_any_image, size="image_sizes", vllm="llava",
)  # fmt: skip
LLAVA_NEXT = Family(
    "llava_next", "LlavaNextForConditionalGeneration", _TEXT, _VISION,
    layout=_llava_next, typical=_four_tiles, size="image_sizes", vllm="llava",
)  # fmt: skip
LLAVA_ONEVISION = Family(
    "llava_onevision", "LlavaOnevisionForConditionalGeneration", ("qwen2",), ("siglip_vision_model",),
    layout=_llava_onevision, typical=_four_tiles, size="image_sizes", needs=("torchvision",), vllm="llava",
)  # fmt: skip
