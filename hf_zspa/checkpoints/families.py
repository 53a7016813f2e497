"""The families of models whose checkpoints can be converted, a record each.

A record holds what this package knows of a family beside its model. It reads a `config.json` and plain numbers, and
imports neither torch nor transformers. What the model itself checks stands in the family's modeling file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]  # what config.json says, or a config's `to_dict()`


@dataclass(frozen=True)
class Grid:
    """Visual tokens that lie in a grid over an image.

    Attributes:
        rows: the tokens of each row from left to right, by their place among those of the image.
        part: what the grid is of, where an image has several.
        cropped: whether it covers what the processor left of the image, which is its first pixels, not all of it.
    """

    rows: tuple[range, ...]
    part: str = ""
    cropped: bool = False


@dataclass(frozen=True)
class Layout:
    """How many visual tokens an image has, and where they lie in it; those in no grid have no place."""

    count: int
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint that can be converted.

    Attributes:
        model_type: as its `config.json` says.
        stock: transformers' generating class.
        text: the model types that its `text_config` may have, the one first that transformers takes where it has none.
        vision: the same of its `vision_config`.
        layout: from a config and the size of an image to its visual tokens.
        typical: from a config to sizes of images to show as examples, each with what it is called; none where the
            config does not tell.
        size: the processor's output that says the size of each image; None where all are alike.
        needs_torchvision: whether its processor does.
        vllm: the module of `hf_zspa.vllm` that serves it; None where none does.
    """

    model_type: str
    stock: str
    text: tuple[str, ...]
    vision: tuple[str, ...]
    layout: Callable[[Config, Sequence[int]], Layout]
    typical: Callable[[Config], list[tuple[str, tuple[int, ...]]]]
    size: str | None = None
    needs_torchvision: bool = False
    vllm: str | None = None

    @property
    def model_class(self) -> str:
        return f"Zspa{self.stock}"

    @property
    def config_class(self) -> str:
        return f"{self.model_class.removesuffix('ForConditionalGeneration')}Config"

    @property
    def module(self) -> str:
        return f"modeling_zspa_{self.model_type}"

    def examples(self, config: Config) -> list[tuple[str, int]]:
        """Typical images, and the visual tokens that the model makes of them."""
        return [(name, self.layout(config, size).count) for name, size in self.typical(config)]


def _rows(first: int, rows: int, columns: int, gap: int = 0) -> tuple[range, ...]:
    """A grid of tokens from the `first` on; `gap` more, which have no place, end each row."""
    width = columns + gap
    return tuple(range(start, start + columns) for start in range(first, first + rows * width, width))


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
    return Layout(before + side * side, (Grid(_rows(before, side, side), cropped=True),))


def _are_sizes(*found: Any) -> bool:
    """Whether all of these entries of a config, which a person may have written, can be sizes."""
    return all(type(size) is int and size > 0 for size in found)


def _any_image(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    one_size = _are_sizes(vision.get("image_size"), vision.get("patch_size")) and vision.get("model_type") != "pixtral"
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
    rows, columns = (pixels // config["vision_config"]["image_size"] * side for pixels in best)
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    whole = before + side * side
    grids = [Grid(_rows(before, side, side), "whole image"), Grid(_rows(whole, rows, columns, gap=1), "tiles")]
    return Layout(whole + rows * (columns + 1), tuple(grids if rows * columns else grids[:1]))


def _four_tiles(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    side = 2 * config["vision_config"]["image_size"] if _any_image(config) else 0
    return [(f"{side} × {side} pixels", (side, side))] if side else []


# A Qwen2.5-VL has its own two whatever its config says. What that is differs between versions of transformers.
_QWEN = ("qwen2_5_vl", "qwen2_5_vl_text", "qwen2_5_vl_vision")


def _qwen(config: Config, size: Sequence[int]) -> Layout:
    """Merged patches over the whole resized image; the frames of a video one after the other."""
    merge = (config.get("vision_config") or {}).get("spatial_merge_size", 2)
    times, rows, columns = size[0], size[1] // merge, size[2] // merge
    return Layout(times * rows * columns, (Grid(_rows(0, rows, columns)),) if times == 1 else ())


def _small_and_large(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    patch = vision.get("patch_size", vision.get("spatial_patch_size", 14))
    merge = vision.get("spatial_merge_size", 2)
    sides = [tokens * merge for tokens in (16, 36)] if _are_sizes(patch, merge) else []
    return [(f"{side * patch} × {side * patch} pixels", (1, side, side)) for side in sides]


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            "llava", "LlavaForConditionalGeneration", _TEXT, _VISION,
            layout=_llava, typical=_any_image, vllm="llava",
        ),
        Family(
            "llava_next", "LlavaNextForConditionalGeneration", _TEXT, _VISION,
            layout=_llava_next, typical=_four_tiles, size="image_sizes", vllm="llava",
        ),
        Family(
            "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", _QWEN, _QWEN,
            layout=_qwen, typical=_small_and_large, size="image_grid_thw", needs_torchvision=True, vllm="qwen2_5_vl",
        ),
    )
}  # fmt: skip
