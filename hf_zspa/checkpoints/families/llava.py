"""LLaVA and LLaVA-NeXT."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows

# A LLaVA is made of any two models of transformers, and some of these load models, code or pickled files themselves.
# Here are those that published LLaVAs are made of; none of them loads anything.
_TEXT = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "granite")

_VISION = ("clip_vision_model", "siglip_vision_model", "pixtral")


def _square(config: Config) -> tuple[int, int]:
    """Patches per side of what the vision tower sees at a time, and the class tokens that come before them."""
    vision = config["vision_config"]
    has_class_token = vision.get("model_type", "clip_vision_model") == "clip_vision_model"
    keeps_it = config.get("vision_feature_select_strategy") == "full"
    return vision["image_size"] // vision["patch_size"], int(has_class_token and keeps_it)


def _llava(config: Config, size: Sequence[int]) -> Layout:
    """A square of patches over the resized and cropped image."""
    side, before = _square(config)
    return Layout(before + side * side, (Grid(rows(before, side, side), cropped=True),))


def _any_image(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    one_size = are_sizes(vision.get("image_size"), vision.get("patch_size")) and vision.get("model_type") != "pixtral"
    return [("any", ())] if one_size else []


# What transformers' config class fills in.
_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def _llava_next(config: Config, size: Sequence[int]) -> Layout:
    """The whole image, then its tiles without their padding and with a newline token after each row.

    Which tiles, and what of them is padding, is what transformers' `select_best_resolution` and `unpad_image` say.
    """
    side, before = _square(config)
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
    whole = before + side * side
    grids = [Grid(rows(before, side, side), "whole image"), Grid(rows(whole, lines, columns, gap=1), "tiles")]
    return Layout(whole + lines * (columns + 1), tuple(grids if lines * columns else grids[:1]))


def _four_tiles(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    side = 2 * config["vision_config"]["image_size"] if _any_image(config) else 0
    return [(f"{side} × {side} pixels", (side, side))] if side else []


LLAVA = Family(
    "llava", "LlavaForConditionalGeneration", _TEXT, _VISION, layout=_llava, typical=_any_image, vllm="llava",
)  # fmt: skip
LLAVA_NEXT = Family(
    "llava_next", "LlavaNextForConditionalGeneration", _TEXT, _VISION,
    layout=_llava_next, typical=_four_tiles, size="image_sizes", vllm="llava",
)  # fmt: skip
