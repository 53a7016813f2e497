"""What pruners that treat each image by itself share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remote_code.zspa_checks import check_ratio, round_half_up
from ..remote_code.zspa_similarity import plain_precision


@dataclass(frozen=True)
class OneByOne:
    """A pruner that treats each image by itself: a method is `choose` for one image.

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1].

    Raises:
        ValueError: the ratio is outside its range.
    """

    keep_ratio: float = 0.1

    def __post_init__(self):
        check_ratio("keep_ratio", self.keep_ratio, zero_allowed=False)

    def budget(self, n: int) -> int:
        return max(1, round_half_up(self.keep_ratio * n))

    @torch.no_grad()
    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        with plain_precision(visual_tokens):
            chosen = [self.choose(v, p, self.budget(len(v))) for v, p in zip(visual_tokens, prompt_tokens)]
        return [indices.sort().values for indices in chosen]

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        """Indices `(budget,)` of the tokens of `visual` `(n, d)` to keep for `prompt` `(m, d)`, in any order."""
        raise NotImplementedError
