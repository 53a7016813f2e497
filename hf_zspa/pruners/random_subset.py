"""A random share of each image's tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..remote_code.zspa_selection import VisualTokenPruner
from .one_by_one import OneByOne


@dataclass(frozen=True)
class RandomPruner(OneByOne):
    """Keeps a random subset of each image, the same one in any batch, order and on any device.

    It is drawn from `seed`, the number of tokens and the image's name. Many questions have the same words, and were
    they all given the same subset, an interval over questions would be too narrow. Images without names are told apart
    by their prompts.

    Args:
        seed: what all draws start from.
        images: a name for each image of a call, as `naming` gives it.
    """

    seed: int = 0
    images: tuple[str, ...] = ()

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        if not self.images:
            return super().__call__(visual_tokens, prompt_tokens)
        named = zip(visual_tokens, self.images, strict=True)
        return [self._draw(v, self.budget(len(v)), name.encode()).sort().values for v, name in named]

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        return self._draw(visual, budget, prompt.detach().cpu().float().numpy().tobytes())

    def _draw(self, visual: Tensor, budget: int, name: bytes) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {len(visual)} ".encode() + name)
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)
        return torch.randperm(len(visual), generator=generator, device="cpu")[:budget].to(visual.device)


def naming(pruner: VisualTokenPruner, images: Sequence[str]) -> VisualTokenPruner:
    """The pruner for a call with these images: "random" draws from their names, the others choose by what they see."""
    return replace(pruner, images=tuple(images)) if isinstance(pruner, RandomPruner) else pruner
