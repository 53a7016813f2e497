"""The image at as many visual tokens as a budget, for the unpruned model: the row "resized"."""

import copy
from typing import Any

from PIL import Image

from ..checkpoints.families import FAMILIES
from ..pruners.one_by_one import OneByOne
from .loading import bound_area, bounds_area


def scales_by_area(processor: Any) -> bool:
    """Whether an image has as many visual tokens as its area, with sides that are whole tokens."""
    return bool(_token_side(processor))


def _token_side(processor: Any) -> int:
    """Pixels on a side of the square that becomes a visual token; 0 where the processor has no such squares."""
    images = processor.image_processor
    if hasattr(images, "merge_size"):
        return int(images.merge_size * images.patch_size)
    merge = getattr(processor, "spatial_merge_size", 0)
    return int(merge * processor.patch_size) if merge else 0


def way(processor: Any) -> str:
    """What "resized" does to an image, in words."""
    if scales_by_area(processor):
        return "the image, scaled to the largest grid of its aspect within the budget"
    return "the averages of the image's features in the largest square within the budget, at contiguous positions"


class Resizer:
    """Scales images so that a processor makes of them as many visual tokens as are kept at a ratio.

    Args:
        processor: one that scales by area; in a copy of it no area is too small.
        config: of the model that the processor belongs to.
    """

    def __init__(self, processor: Any, config: Any, keep_ratio: float):
        self.processor = copy.deepcopy(processor)
        self.budget = OneByOne(keep_ratio).budget
        self._config, self._family = config.to_dict(), FAMILIES[config.model_type]
        self._side = _token_side(processor)
        if bounds_area(self.processor.image_processor):
            bound_area(self.processor.image_processor, 1, None)

    def __call__(self, images: list[Any], inputs: Any) -> list[Any]:
        """The images, scaled.

        Args:
            inputs: what the processor makes of prompts with the images as they are.
        """
        found = []
        for image, size in zip(images, inputs[self._family.size].tolist(), strict=True):
            grid = self._family.layout(self._config, size).grids[0].rows
            rows, columns = largest_grid(len(grid), len(grid[0]), self.budget(len(grid) * len(grid[0])))
            size = columns * self._side, rows * self._side
            found.append(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        return found


def largest_grid(rows: int, columns: int, budget: int) -> tuple[int, int]:
    """The grid of most tokens within a budget among those with the aspect of `(rows, columns)`, rounded to whole
    columns; of a strip too long for it, a row of the budget."""
    grids = [(r, max(1, round(r * columns / rows))) for r in range(1, budget + 1)]
    fits = [(r, c) for r, c in grids if r * c <= budget]
    return max(fits or [(1, budget)], key=lambda grid: grid[0] * grid[1])
