"""Where the visual tokens of an image lie in it, for every family."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor


@dataclass
class View:
    """A grid of visual tokens over a picture.

    Attributes:
        name: what the grid covers, for a caption.
        image: the picture as the model sees it; the grid spans all of it.
        tokens: `(rows, columns)` int64, the visual token at each place.
    """

    name: str
    image: Image.Image
    tokens: Tensor


def token_views(model, processor, inputs, image: Image.Image, count: int) -> list[View]:
    """The views of one image of `count` visual tokens, mostly one. Tokens in none of them have no place.

    Args:
        model: a model of a supported family.
        processor: its processor.
        inputs: what the processor made of `image` and a prompt.
        image: the image itself.
        count: visual tokens of the image, before any pruning.

    Raises:
        ValueError: the tokens of this model form no grid that is known here.
    """
    find = {"llava": _llava, "llava_next": _llava_next, "qwen2_5_vl": _qwen}.get(model.config.model_type)
    views = find(model, processor, inputs, image, count) if find else []
    if not views:
        raise ValueError(
            f"the {count} visual tokens of a {model.config.model_type} model cannot be placed in the image"
        )
    return views


def _llava(model, processor, inputs, image, count) -> list[View]:
    """A square of patches over the resized and cropped image; a class token, where it is kept, comes first."""
    side = _patches_per_side(model.config.vision_config)
    if count not in (side * side, side * side + 1):
        return []
    seen = _unnormalised(inputs["pixel_values"][0], processor.image_processor)
    return [View(f"{side} x {side} tokens", seen, torch.arange(count)[-side * side :].view(side, side))]


def _llava_next(model, processor, inputs, image, count) -> list[View]:
    """The whole image, then its tiles without their padding; a newline token at the end of a row of tiles has no place.

    The stock class packs the numbers of the patches in place of their features, so this is its geometry.
    """
    side = _patches_per_side(model.config.vision_config)
    tiles = inputs["pixel_values"].shape[1]
    numbers = torch.arange(tiles * side * side, dtype=torch.float64).view(tiles, side * side, 1)
    packed, _ = model.pack_image_features(
        [numbers], inputs["image_sizes"].cpu(), vision_feature_select_strategy="default",
        image_newline=torch.full((1,), -1, dtype=torch.float64),
    )  # fmt: skip
    numbers = packed[0].flatten().long()
    if len(numbers) != count:
        return []
    views = [View(f"whole image, {side} x {side} tokens", image, torch.arange(side * side).view(side, side))]
    rest = torch.arange(count)[side * side :]
    newlines = int((numbers == -1).sum())
    if len(rest) > newlines:
        grid = rest[numbers[side * side :] >= 0].view(newlines, -1)
        views.append(View(f"tiles, {grid.shape[0]} x {grid.shape[1]} tokens", image, grid))
    return views


def _qwen(model, processor, inputs, image, count) -> list[View]:
    """Merged patches over the whole resized image."""
    _, height, width = inputs["image_grid_thw"][0].tolist()
    merge = model.config.vision_config.spatial_merge_size
    rows, columns = height // merge, width // merge
    if count != rows * columns:
        return []
    return [View(f"{rows} x {columns} tokens", image, torch.arange(count).view(rows, columns))]


def _patches_per_side(vision_config) -> int:
    return vision_config.image_size // vision_config.patch_size


def _unnormalised(pixels: Tensor, image_processor) -> Image.Image:
    """The picture in normalised pixels `(3, height, width)`."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (image_processor.image_mean, image_processor.image_std))
    levels = ((pixels.float().cpu() * std + mean) * 255).round().clamp(0, 255)
    return Image.fromarray(levels.byte().permute(1, 2, 0).numpy())
