"""Random weights in the shapes of published models: how long something takes does not depend on the values.

`shapes.json` has what their `config.json` says of their shape, and what their processors make of an image.
"""

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig

from ..checkpoints.families import FAMILIES, Family
from ..evaluation.resizing import largest_grid, square
from ..pruners.one_by_one import OneByOne

SMALL_LAYERS = 2  # of the language model and of the vision tower in the "-small" shapes; the widths stay
SMALL_EXPERTS = 8  # of a mixture there
TEXT = 40  # tokens of the prompt beside the visual ones
WORDS = (1000, 30000)  # they are drawn from these ids, which no shape has for its images
VISUAL = "visual"  # a visual token in what a processor writes for an image
Runs = Sequence[Sequence[Any]]  # of a token, or of such runs, and how many there are


@dataclass(frozen=True)
class Shape:
    """A model to build, and what its processor makes of an image.

    Attributes:
        config: what `config.json` says, for `AutoConfig.for_model`.
        pixels: the shape of an image's pixels, or of one of its patches where it is packed.
        packed: images are of any size.
        videos: so are videos, and their frames stand at placeholders of their own, one behind the other.
        tiles_joined: the tiles of all images are one after the other.
        tiles_in_rows: the tiles of a prompt's images are a row.
        patch_mask: there is a mask of the patches, all of which are there.
        size: what the processor says of an image's size, or that size where it says nothing.
        patch_places: rows and columns of the patches, where the size of an image is the place (x, y) of each.
        markers: the `zspa_image_marker_ids`.
        image: what the processor writes for an image: runs of a token, or of such runs, and how many there are; None
            is the number of its visual tokens.
    """

    config: dict[str, Any]
    pixels: Sequence[int]
    packed: bool = False
    videos: bool = False
    tiles_joined: bool = False
    tiles_in_rows: bool = False
    patch_mask: bool = False
    size: Sequence[Any] = ()
    patch_places: tuple[int, int] | None = None
    markers: list[Any] | None = None
    image: Runs = ((VISUAL, None),)

    @property
    def family(self) -> Family:
        return FAMILIES[self.config["model_type"]]

    @property
    def model_class(self) -> Any:
        return getattr(import_module(f"hf_zspa.remote_code.{self.family.module}"), self.family.model_class)

    def small(self) -> "Shape":
        """The same widths with few layers, of both kinds where there are two, and few experts."""
        vision, text = dict(self.config["vision_config"]), dict(self.config["text_config"])
        vision |= {name: SMALL_LAYERS for name in ("depth", "num_hidden_layers") if name in vision}
        vision |= {"fullatt_block_indexes": [1]} if "fullatt_block_indexes" in vision else {}
        vision |= {"deepstack_visual_indexes": [0]} if "deepstack_visual_indexes" in vision else {}
        text |= {"num_hidden_layers": SMALL_LAYERS}
        kinds = list(dict.fromkeys(text.get("layer_types", ())))
        text |= {"layer_types": (kinds * SMALL_LAYERS)[:SMALL_LAYERS]} if kinds else {}
        text |= {"num_kv_shared_layers": 0} if "num_kv_shared_layers" in text else {}
        text |= {name: SMALL_EXPERTS for name in ("num_experts", "n_routed_experts") if name in text}
        return replace(self, config=self.config | {"vision_config": vision, "text_config": text})


@dataclass(frozen=True)
class Prompt:
    """What every row of a batch is asked about.

    Attributes:
        images: images in a row.
        patches: rows and columns of patches of an image or a frame, where a shape has any size; four are one token.
        frames: frames of a video in place of the images, where a shape has videos; two frames share their tokens.
    """

    batch: int = 1
    images: int = 1
    patches: tuple[int, int] = (72, 72)
    frames: int = 0


_PUBLISHED = json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))
SHAPES = {name: Shape(**entry) for name, entry in _PUBLISHED.items()}
SHAPES |= {f"{name}-small": shape.small() for name, shape in SHAPES.items()}


def published() -> list[str]:
    """The names of the shapes, each of which has a "-small" one beside it."""
    return [*_PUBLISHED]


def shape(name: str) -> Shape:
    """The shape of this name; raises `ValueError` where there is none, or none in this version of transformers."""
    if name not in SHAPES:
        raise ValueError(
            f"--shape is {name!r}, but must be one of {', '.join(published())}, or one of these with -small behind it"
        )
    if SHAPES[name].config["model_type"] not in CONFIG_MAPPING:
        raise ValueError(f"--shape is {name!r}, which this transformers does not have: install a newer one")
    return SHAPES[name]


def build(name: str, device: torch.device, dtype: torch.dtype, attention: str | None = None):
    """A pruning model with random weights; `attention` is transformers' name, such as "sdpa".

    Raises:
        ValueError: as `shape`.
    """
    known = shape(name)
    config = AutoConfig.for_model(**known.config)
    config = known.model_class.config_class(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    config.zspa_image_marker_ids = known.markers
    config._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = known.model_class(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def check_prompt(name: str, prompt: Prompt) -> None:
    """Raises `ValueError` for a video, or a size of images, where the shape has neither, and as `shape`."""
    known = shape(name)
    if prompt.patches != Prompt.patches and not known.packed:
        others = ", ".join(other for other in published() if SHAPES[other].packed)
        raise ValueError(f"--patches is for {others}: {name} has images of one size")
    if prompt.frames and not known.videos:
        others = " and ".join(other for other in published() if SHAPES[other].videos)
        raise ValueError(f"--frames is {prompt.frames}, but {name} has no videos here: {others} have")


def inputs(name: str, model, prompt: Prompt = Prompt()) -> dict[str, torch.Tensor]:
    """What a processor would make of such a prompt, with random pixels and 40 tokens of text.

    Raises:
        ValueError: as `check_prompt`.
    """
    check_prompt(name, prompt)
    known, config = SHAPES[name], model.config
    generator = torch.Generator().manual_seed(0)
    kind = "video" if prompt.frames else "image"
    size = (max(1, prompt.frames // 2), *prompt.patches) if known.packed else known.size
    if known.patch_places:
        size = tuple((x, y) for y in range(known.patch_places[0]) for x in range(known.patch_places[1]))
    given = _pixels(known, size, prompt, kind, generator)
    placeholder = getattr(config, f"{kind}_token_id")
    tokens = [*_written(known.image, known.family.layout(config.to_dict(), size).count, placeholder)]
    text = torch.randint(*WORDS, (prompt.batch, TEXT), generator=generator)
    image = torch.tensor([tokens * prompt.images] * prompt.batch)
    ids = torch.cat([text[:, : TEXT // 4], image, text[:, TEXT // 4 :]], 1)
    given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    types = {"token_type_ids", "mm_token_type_ids"} & {*inspect.signature(model.forward).parameters}
    for name_of_types in types:  # the second from 5.4 or so on
        given[name_of_types] = (ids == placeholder) * (2 if prompt.frames else 1)
    return {key: (v.to(model.dtype) if v.is_floating_point() else v).to(model.device) for key, v in given.items()}


def resized(name: str, model, prompt: Prompt, keep_ratio: float) -> dict[str, torch.Tensor] | None:
    """The same prompt with images of as many tokens as are kept, where they may be of any size; None for models that
    see squares, whose features are averaged.

    Raises:
        ValueError: the model has neither.
    """
    known = shape(name)
    if not known.packed:
        if square(model.config):
            return None
        raise ValueError(f"--methods has resized, which is not for the shape {name}: leave it out")
    rows, columns = (side // 2 for side in prompt.patches)  # four patches are a token
    rows, columns = largest_grid(rows, columns, OneByOne(keep_ratio).budget(rows * columns))
    return inputs(name, model, replace(prompt, patches=(2 * rows, 2 * columns)))


def _pixels(known: Shape, size: Sequence[Any], prompt: Prompt, kind: str, generator: torch.Generator) -> dict[str, Any]:
    """The pixels of all images, and what the processor says beside them."""
    count = prompt.batch * prompt.images
    pixels = torch.randn(count * (math.prod(size) if known.packed else 1), *known.pixels, generator=generator)
    if known.tiles_joined:
        pixels = pixels.flatten(0, 1)
    elif known.tiles_in_rows:
        pixels = pixels.reshape(prompt.batch, -1, *known.pixels[1:])
    given = {"pixel_values_videos" if kind == "video" else "pixel_values": pixels}
    if known.patch_mask:
        given["pixel_attention_mask"] = torch.ones(pixels.shape[:2], dtype=torch.long)
    if known.family.size and size:
        sizes = torch.tensor([size] * count)
        given[known.family.size.replace("image", kind)] = sizes.flatten(0, 1) if known.tiles_joined else sizes
    return given


def _written(runs: Runs, count: int, placeholder: int) -> Iterator[int]:
    """The tokens of an image of `count` visual ones."""
    for what, times in runs:
        for _ in range(count if times is None else times):
            if isinstance(what, list):
                yield from _written(what, count, placeholder)
            else:
                yield placeholder if what == VISUAL else what
