"""Where the visual tokens of an image lie in it."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.families import FAMILIES


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
    family = FAMILIES[model.config.model_type]
    size = (image.height, image.width, count)
    if family.size in inputs:
        found = inputs[family.size].tolist()
        size = found[0] if len(found) == 1 else found
    layout = family.layout(model.config.to_dict(), size)
    if layout.count != count or not layout.grids:
        raise ValueError(f"the {count} visual tokens of a {family.model_type} model cannot be placed in the image")
    views = []
    for grid in layout.grids:
        tokens = torch.tensor([list(row) for row in grid.rows])
        rows, columns = tokens.shape
        seen = image
        if grid.cropped or grid.patches:
            pixels = inputs["pixel_values"]
            pixels = _joined(pixels, *grid.patches) if grid.patches else pixels[0]
            seen = _unnormalised(pixels, processor.image_processor)
        views.append(View(f"{grid.part}, {rows} x {columns} tokens".removeprefix(", "), seen, tokens))
    return views


def _joined(patches: Tensor, rows: int, columns: int) -> Tensor:
    """The pixels `(3, height, width)` of which `(rows * columns, 3, h, w)` are the patches, row by row."""
    return patches.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)


def _unnormalised(pixels: Tensor, image_processor) -> Image.Image:
    """The picture in normalised pixels `(3, height, width)`."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (image_processor.image_mean, image_processor.image_std))
    levels = ((pixels.float().cpu() * std + mean) * 255).round().clamp(0, 255)
    return Image.fromarray(levels.byte().permute(1, 2, 0).numpy())
