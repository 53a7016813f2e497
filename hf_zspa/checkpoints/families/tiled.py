"""Models whose processors cut an image into tiles, of which the encoder makes equally many visual tokens each.

What the processor returns does not say how it cut an image, but the image's height and width and the number of its
visual tokens do: `size` is these three. The tiles lie row by row over the whole image, which is stretched to fit them;
behind them comes the whole image in one more tile. An image of one tile has that one only.
"""

from collections.abc import Callable, Sequence
from math import log
from typing import Any

from .record import Config, Family, Grid, Layout, are_sizes, rows

Number = Callable[[Config], int]
Cut = Callable[[int, int, int, int], tuple[int, int]]


def _family(
    model_type: str,
    stock: str,
    text: tuple[str, ...],
    vision: tuple[str, ...],
    *,
    side: Number,
    pixels: Number,
    cut: Cut,
    shapes: Sequence[tuple[int, int]] = ((1, 1), (2, 3)),
    markers: tuple[str, ...] = (),
    opener: str = "",
    closers: tuple[str, ...] = (),
    needs: tuple[str, ...] = ("torchvision",),
    by_prompt: bool = False,
    vllm: str | None = "tiled",
) -> Family:
    """A record of such a family.

    Args:
        side: from a config to the visual tokens per side of a tile.
        pixels: from a config to those per side of a tile.
        cut: from the height, the width and the tiles of an image, and the pixels per side of one, to rows and columns.
        shapes: rows and columns of the tiles of the examples.
    """

    def layout(config: Config, size: Sequence[int]) -> Layout:
        (height, width, count), across = size, side(config)
        each, tiles = across**2, count // across**2
        if tiles < 2:
            return Layout(each, (Grid(rows(0, across, across), fixed=True),))
        down, columns = cut(height, width, tiles - 1, pixels(config))
        whole = rows((tiles - 1) * each, across, across)
        return Layout(tiles * each, (Grid(whole, "whole image", fixed=True), _over(down, columns, across)))

    def typical(config: Config) -> list[tuple[str, tuple[int, ...]]]:
        vision = config.get("vision_config") or {}
        given = [vision[name] for name in ("image_size", "patch_size") if vision.get(name) is not None]
        if not are_sizes(*(size for sizes in given for size in (sizes if isinstance(sizes, list) else [sizes]))):
            return []
        try:
            tile, each = pixels(config), side(config) ** 2
        except (LookupError, TypeError, ZeroDivisionError):  # missing, or no numbers
            return []
        sizes = [(tile * r, tile * c, each * (r * c + (r * c > 1))) for r, c in shapes]
        return [(f"{width} × {height} pixels", (height, width, count)) for height, width, count in sizes]

    return Family(
        model_type, stock, text, vision, layout=layout, typical=typical, image_markers=markers,
        image_opener=opener, image_closers=closers, needs=needs, images_by_prompt=by_prompt, vllm=vllm,
    )  # fmt: skip


def _over(down: int, columns: int, side: int) -> Grid:
    """A grid over tiles that lie in `down` rows."""
    lines = tuple(
        tuple(t * side**2 + line * side + c for t in range(r * columns, (r + 1) * columns) for c in range(side))
        for r in range(down)
        for line in range(side)
    )
    return Grid(lines, "tiles")


def _shapes(tiles: int) -> list[tuple[int, int]]:
    """All rows and columns that as many tiles can lie in."""
    return [(tiles // columns, columns) for columns in range(1, tiles + 1) if tiles % columns == 0]


def _nearest_ratio(height: int, width: int, tiles: int, pixels: int) -> tuple[int, int]:
    """The shape whose ratio is nearest to that of the image."""
    return min(_shapes(tiles), key=lambda shape: abs(width / height - shape[1] / shape[0]))


def _covering(height: int, width: int, tiles: int, pixels: int) -> tuple[int, int]:
    """The shape that as few rows or columns as cover the longer side make, where those along it are a fixed number."""
    return min(_shapes(tiles), key=lambda shape: abs(log(width * shape[0] / (height * shape[1]))))


def _nearest_size(height: int, width: int, tiles: int, pixels: int) -> tuple[int, int]:
    """The shape that an image is enlarged least to fill, or else, where it is too large for all, shrunk least."""
    scales = {shape: min(shape[0] * pixels / height, shape[1] * pixels / width) for shape in _shapes(tiles)}
    larger = {shape: scale for shape, scale in scales.items() if scale >= 1}
    return min(larger, key=larger.__getitem__) if larger else max(scales, key=scales.__getitem__)


def _first(size: int | Sequence[int]) -> int:
    """The height, of what a config says as one number, or as height and width."""
    return size if isinstance(size, int) else size[0]


def _pixels(config: Config) -> int:
    return _first(config["vision_config"]["image_size"])


def _patches(config: Config) -> int:
    return _pixels(config) // _first(config["vision_config"]["patch_size"])


def _downsampled(config: Config) -> int:
    return _patches(config) // config.get("downsample_factor", 2)


INTERNVL = _family(
    "internvl", "InternVLForConditionalGeneration",
    ("qwen2", "qwen3", "qwen3_moe", "gpt_oss", "llama"), ("internvl_vision",),
    side=lambda config: int(_patches(config) * config.get("downsample_ratio", 0.5)),
    pixels=_pixels, cut=_nearest_ratio,
)  # fmt: skip
AYA_VISION = _family(
    "aya_vision", "AyaVisionForConditionalGeneration", ("cohere2", "cohere"), ("siglip_vision_model",),
    side=_downsampled, pixels=_pixels, cut=_nearest_ratio, markers=("<|START_OF_IMG|>",),
    closers=("<|END_OF_IMG|>", "<|IMG_LINE_BREAK|>"), vllm=None,
)  # fmt: skip
COHERE2_VISION = _family(
    "cohere2_vision", "Cohere2VisionForConditionalGeneration", ("cohere2",), ("siglip_vision_model",),
    side=_downsampled, pixels=_pixels, cut=_nearest_size, markers=("<|START_OF_IMG|>",), vllm=None,
)  # fmt: skip


def _idefics(model_type: str, stock: str, vision: tuple[str, ...], **others: Any) -> Family:
    """Every image is enlarged to the same length, which is that of four tiles in the published checkpoints."""
    return _family(
        model_type, stock, ("llama",), vision, side=lambda config: _patches(config) // config.get("scale_factor", 2),
        pixels=_pixels, cut=_covering, shapes=((4, 4), (3, 4)), markers=("<global-img>",),
        opener="<fake_token_around_image>", **others,
    )  # fmt: skip


SMOLVLM = _idefics(
    "smolvlm", "SmolVLMForConditionalGeneration", ("smolvlm_vision",),
    needs=("num2words", "torchvision"), by_prompt=True,
)  # fmt: skip
IDEFICS3 = _idefics("idefics3", "Idefics3ForConditionalGeneration", ("idefics3_vision", "idefics3"), needs=())


def _lfm2_vl(config: Config, size: Sequence[Any]) -> Layout:
    """`size` is the rows and columns of patches of the image, which keeps its shape, or of each of its tiles and of the
    whole image behind them."""
    factor = config.get("downsample_factor", 2)
    shapes = [size] if isinstance(size[0], int) else size
    *tiles, (down, across) = ((lines // factor, columns // factor) for lines, columns in shapes)
    before = sum(h * w for h, w in tiles)
    whole = Grid(rows(before, down, across), "whole image" if tiles else "")
    if not tiles:
        return Layout(down * across, (whole,))
    grid = _over(*_nearest_ratio(down, across, len(tiles), 0), tiles[0][0])
    return Layout(before + down * across, (whole, grid))


def _lfm2_vl_examples(config: Config) -> list[tuple[str, tuple[Any, ...]]]:
    patch = (config.get("vision_config") or {}).get("patch_size", 16)
    tile = config.get("tile_size", 512)
    if not are_sizes(patch, tile):
        return []
    one = (tile // patch, tile // patch)
    return [(f"{tile} × {tile} pixels", one), (f"{2 * tile} × {2 * tile} pixels", (one,) * 5)]


LFM2_VL = Family(
    "lfm2_vl", "Lfm2VlForConditionalGeneration", ("lfm2",), ("siglip2_vision_model",), layout=_lfm2_vl,
    typical=_lfm2_vl_examples, size="spatial_shapes", needs=("torchvision",), images_by_prompt=True,
    image_markers=("<|image_start|>",),
)  # fmt: skip
