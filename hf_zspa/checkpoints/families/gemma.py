"""The Gemma models that see."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows


def _layout(config: Config, size: Sequence[int]) -> Layout:
    """A square of pooled patches over the whole resized image."""
    count = config.get("mm_tokens_per_image", 256)
    side = int(count**0.5)
    return Layout(count, (Grid(rows(0, side, side), fixed=True),))


def _any_image(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    return [("any", ())] if are_sizes(config.get("mm_tokens_per_image", 256)) else []


GEMMA3 = Family(
    "gemma3", "Gemma3ForConditionalGeneration", ("gemma3_text",), ("siglip_vision_model",),
    layout=_layout, typical=_any_image, images_by_prompt=True,
)  # fmt: skip


def _pooled(config: Config, size: Sequence[Sequence[int]]) -> Layout:
    """Pooled patches over the whole resized image, whose `size` is the places (x, y) of its patches."""
    kernel = (config.get("vision_config") or {}).get("pooling_kernel_size", 3)
    columns, lines = (max(place[axis] for place in size) // kernel + 1 for axis in (0, 1))
    return Layout(lines * columns, (Grid(rows(0, lines, columns)),))


def _square(config: Config) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    """A square image of as many tokens as fit into the 280 that published processors allow."""
    vision = config.get("vision_config") or {}
    kernel, patch = vision.get("pooling_kernel_size", 3), vision.get("patch_size", 16)
    if not are_sizes(kernel, patch):
        return []
    side = int(280**0.5) * kernel
    return [(f"{side * patch} × {side * patch} pixels", ((side - 1, side - 1),))]


GEMMA4 = Family(
    "gemma4", "Gemma4ForConditionalGeneration", ("gemma4_text",), ("gemma4_vision",),
    layout=_pooled, typical=_square, size="image_position_ids", needs=("torchvision",), images_by_prompt=True,
)  # fmt: skip


def _patches(config: Config, size: Sequence[int]) -> Layout:
    """A square of patches over the whole resized image."""
    vision = config.get("vision_config") or {}
    side = vision.get("image_size", 224) // vision.get("patch_size", 14)
    return Layout(side * side, (Grid(rows(0, side, side), fixed=True),))


def _any_square(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    return [("any", ())] if are_sizes(vision.get("image_size", 224), vision.get("patch_size", 14)) else []


PALIGEMMA = Family(
    "paligemma", "PaliGemmaForConditionalGeneration", ("gemma", "gemma2"), ("siglip_vision_model",),
    layout=_patches, typical=_any_square, chats=False,
)  # fmt: skip
