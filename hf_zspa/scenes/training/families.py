"""What differs between the embedded models: the conversation, positions of visual tokens, the shape of scenes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from transformers import PretrainedConfig

from ..domains import PHOTOGRAPHS, SCENES, VARIED_SCENES, Domain
from ..vocabulary import LLAVA, PHOTO_LLAVA, QWEN2_5_VL, Vocabulary
from . import llava, qwen2_5_vl


@dataclass(frozen=True)
class Family:
    """One of the embedded models.

    Attributes:
        before: tokens before the visual tokens; `after`: between them and the question; `ask`: after the question.
        end: what the model says after an answer.
        domain: the pictures and questions it is trained on.
        question_length: the longest question and an answer of two tokens, without what asks for the answer.
        read_layer: the number of language model layers after which a visual token must know where it is. Visual
            tokens of a tower with position embeddings know at once; with M-RoPE the language model tells them.
        config: the model's configuration.
        build: a freshly initialised model of a seed.
        visual_tokens: `(model, images (b, height, width, 3) uint8)` to `(b, n, d)`.
    """

    name: str
    vocabulary: Vocabulary
    before: tuple[str, ...]
    after: tuple[str, ...]
    ask: tuple[str, ...]
    end: str
    pad: str
    domain: Domain
    question_length: int
    read_layer: int
    config: Callable = field(repr=False)
    build: Callable = field(repr=False)
    visual_tokens: Callable = field(repr=False)

    @property
    def varied(self) -> bool:
        """Whether pictures come in varied sizes."""
        return self.domain is VARIED_SCENES

    def grid(self, *seed: int) -> tuple[int, int]:
        """Rows and columns of cells of a scene."""
        return self.domain.grid(*seed)

    def context_length(self, grid: tuple[int, int]) -> int:
        """Tokens before the question."""
        return len(self.before) + grid[0] * grid[1] + len(self.after)

    def visual_span(self, grid: tuple[int, int]) -> slice:
        """Where the visual tokens stand."""
        return slice(len(self.before), len(self.before) + grid[0] * grid[1])

    def positions(self, grid: tuple[int, int]) -> tuple[Tensor, int]:
        """Positions `(p, context)` of all tokens before the question, and the question's first; p is 3 for M-RoPE."""
        start, (rows, columns) = len(self.before), grid
        if self.read_layer == 0:
            context = self.context_length(grid)
            return torch.arange(context)[None], context
        y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
        image = start + torch.stack([torch.zeros_like(x), y, x])
        end = start + max(rows, columns)
        text = torch.arange(start).expand(3, -1), end + torch.arange(len(self.after)).expand(3, -1)
        return torch.cat([text[0], image, text[1]], 1), end + len(self.after)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "llava", LLAVA, ("<bos>", "USER:"), (), ("ASSISTANT:",), "<eos>", "<pad>", SCENES, 14, 0,
            llava.build_config, llava.build_model, llava.visual_tokens,
        ),
        Family(
            "llava-photo", PHOTO_LLAVA, ("<bos>", "USER:"), (), ("ASSISTANT:",), "<eos>", "<pad>", PHOTOGRAPHS, 24, 0,
            partial(llava.build_config, llava.PHOTO), partial(llava.build_model, shape=llava.PHOTO),
            llava.visual_tokens,
        ),
        Family(
            "qwen2_5_vl", QWEN2_5_VL, ("<|im_start|>", "user", "<|vision_start|>"), ("<|vision_end|>",),
            ("<|im_end|>", "<|im_start|>", "assistant"), "<|im_end|>", "<|endoftext|>", VARIED_SCENES, 14, 1,
            qwen2_5_vl.build_config, qwen2_5_vl.build_model, qwen2_5_vl.visual_tokens,
        ),
    )
}  # fmt: skip


def family_of(config: PretrainedConfig) -> Family:
    """The family of a checkpoint's config: its model type and its number of words tell."""
    model_type, words = config.model_type, config.text_config.vocab_size
    return next(
        family
        for name, family in FAMILIES.items()
        if name.split("-")[0] == model_type and len(family.vocabulary.tokens) == words
    )
