"""The image at as many visual tokens as a budget, for the unpruned model: the row "resized"."""

import copy
from typing import Any

from PIL import Image

from ..checkpoints.families import FAMILIES, Layout
from ..pruners.merging import PooledPruner
from ..pruners.one_by_one import OneByOne
from .loading import bound_area, bounds_area


def scales_by_area(processor: Any) -> bool:
    """Whether an image has as many visual tokens as its area, with sides that are whole tokens."""
    return bool(_token_side(processor))


def _token_side(processor: Any) -> int:
    """Pixels on a side of the square that becomes a visual token; 0 where the processor has no such squares."""
    images = processor.image_processor
    for holder, patch, per_token in (
        (images, "patch_size", "merge_size"),
        (images, "patch_size", "pooling_kernel_size"),
        (images, "encoder_patch_size", "downsample_factor"),
        (processor, "patch_size", "spatial_merge_size"),
    ):
        if getattr(holder, per_token, None):
            return int(getattr(holder, per_token) * getattr(holder, patch))
    return 0


def way(processor: Any, config: Any) -> str:
    """What "resized" does to an image, in words."""
    if scales_by_area(processor):
        return "the image, scaled to the largest grid of its aspect within the budget"
    layout = _largest_example(config)
    of, more = "the image's features", ""
    if layout and len(layout.grids) > 1:
        text = " but with the text between them" if FAMILIES[config.model_type].image_markers else ""
        of = f"the features of the whole image, without its tiles{text},"
        more = " (of every tile, where the budget has room for that)" if pooled(config, 1.0).tiled else ""
    return f"the averages of {of} in the largest square within the budget{more}, at contiguous positions"


def square(config: Any) -> dict[str, Any] | None:
    """What `PooledPruner` is told of a model that sees squares of fixed size; None for one that does not.

    Args:
        config: the model's.
    """
    layout = _largest_example(config)
    if layout is None or not layout.grids[0].fixed:
        return None
    whole, in_grids = layout.grids[0].rows, sum(len(row) for grid in layout.grids for row in grid.rows)
    side, first, cut = len(whole), whole[0][0], len(layout.grids) > 1
    if cut and first + side**2 == layout.count:
        first -= layout.count  # it is the last one
    return {"side": side, "first": first, "tiled": cut and in_grids == layout.count}


def _largest_example(config: Any) -> Layout | None:
    """The tokens of a typical image, cut into tiles where the model does that."""
    family, stated = FAMILIES[config.model_type], config.to_dict()
    typical = family.typical(stated)
    return family.layout(stated, typical[-1][1]) if typical else None


def pooled(config: Any, keep_ratio: float) -> Any:
    """The pruner of "resized" for a model that sees squares."""
    return PooledPruner(keep_ratio, **square(config) or {})


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
        self._side, self._full, scaled = _token_side(processor), processor, self.processor.image_processor
        # An image of more tokens than the processor allows would be cut.
        self._most = getattr(scaled, "max_image_tokens", 0)
        if bounds_area(scaled):
            bound_area(scaled, 1, None)
        if hasattr(scaled, "min_image_tokens"):
            scaled.min_image_tokens = 1
        if hasattr(scaled, "pooling_kernel_size"):  # it would fill its budget again
            scaled.do_resize = False

    def __call__(self, images: list[Any], inputs: Any) -> list[Any]:
        """The images, scaled.

        Args:
            inputs: what the processor makes of prompts with the images as they are.
        """
        found, sizes = [], inputs[self._family.size].tolist()
        if len(sizes) != len(images):  # each image has as many as its tiles
            sizes = [self._sizes_of(image) for image in images]
        for image, size in zip(images, sizes, strict=True):
            layout = self._family.layout(self._config, size)
            grid, budget = layout.grids[0].rows, min(self.budget(layout.count), self._most or layout.count)
            rows, columns = largest_grid(len(grid), len(grid[0]), budget)
            size = columns * self._side, rows * self._side
            found.append(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        return found

    def _sizes_of(self, image: Image.Image) -> Any:
        """What the processor says of an image that it may cut."""
        return self._full.image_processor(images=[image], return_tensors="pt")[self._family.size].tolist()


def largest_grid(rows: int, columns: int, budget: int) -> tuple[int, int]:
    """The grid of most tokens within a budget among those with the aspect of `(rows, columns)`, rounded to whole
    columns; of a strip too long for it, a row of the budget."""
    grids = [(r, max(1, round(r * columns / rows))) for r in range(1, budget + 1)]
    fits = [(r, c) for r, c in grids if r * c <= budget]
    return max(fits or [(1, budget)], key=lambda grid: grid[0] * grid[1])
