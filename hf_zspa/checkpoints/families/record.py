"""What this package knows of a family of models beside its model.

A record reads a `config.json` and plain numbers, and imports neither torch nor transformers. What the model itself
checks stands in the family's modeling file.
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
        patches: rows and columns of the patches that are the image's pixels, row by row, where the processor has padded
            it; the grid covers them all.
        fixed: whether it is a square of as many tokens for every image.
    """

    rows: tuple[Sequence[int], ...]
    part: str = ""
    cropped: bool = False
    patches: tuple[int, int] | None = None
    fixed: bool = False


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
        typical: from a config to sizes of images to show as examples, each with what it is called, "any" where all
            have equally many tokens; none where the config does not tell.
        size: the processor's output that says the size of each image, or of each tile of one; None, or missing in an
            output, where the size is the image's own height and width, and the number of its visual tokens.
        published_as: what its checkpoints call the stock class, where they have another name for it.
        needs: packages that its processor needs.
        images_by_prompt: whether its processor takes a list of images for each prompt, not all in one.
        chats: whether its published checkpoints have a chat template; else the question alone is the prompt.
        not_built_in: versions of transformers whose stock class cannot be built.
        image_markers: tokens, or text behind `image_opener`, that tell an image's first tile, or its last, from the
            others, as the loaded model's class says, or behind which its processor writes text; none where neither is.
        image_closers: tokens that its processor writes inside an image or behind it, and that some of its tokenizers do
            not flag as special.
        image_opener: the token in front of a marker that is text to some of its tokenizers; "" where it never is.
        vllm: the module of `hf_zspa.vllm` that serves it; None where none does.
    """

    model_type: str
    stock: str
    text: tuple[str, ...]
    vision: tuple[str, ...]
    layout: Callable[[Config, Sequence[Any]], Layout]
    typical: Callable[[Config], list[tuple[str, tuple[Any, ...]]]]
    size: str | None = None
    published_as: str | None = None
    needs: tuple[str, ...] = ()
    images_by_prompt: bool = False
    chats: bool = True
    not_built_in: tuple[str, ...] = ()
    image_markers: tuple[str, ...] = ()
    image_closers: tuple[str, ...] = ()
    image_opener: str = ""
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


def rows(first: int, count: int, columns: int, gap: int = 0) -> tuple[range, ...]:
    """A grid of tokens from the `first` on; `gap` more, which have no place, end each row."""
    width = columns + gap
    return tuple(range(start, start + columns) for start in range(first, first + count * width, width))


def are_sizes(*found: Any) -> bool:
    """Whether all of these entries of a config, which a person may have written, can be sizes."""
    return all(type(size) is int and size > 0 for size in found)
