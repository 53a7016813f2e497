"""Pruners that average visual tokens in the place of dropping them."""

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ..remote_code.zspa_similarity import plain_precision
from .one_by_one import OneByOne


@dataclass(frozen=True)
class MergingPruner(OneByOne):
    """A pruner that treats each image by itself, and returns for each `(indices, features)`: ascending `(l,)`, and
    `(l, d)` in the dtype of its tokens, which stand in their places. A method is `merge` for one image."""

    merges = True

    @torch.no_grad()
    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:  # type: ignore[override]
        with plain_precision(visual_tokens):
            found = [self.merge(visual.float(), self.budget(len(visual))) for visual in visual_tokens]
        return [(indices, features.to(v.dtype)) for (indices, features), v in zip(found, visual_tokens)]

    def merge(self, visual: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        """Of `visual` `(n, d)`, float32, ascending indices `(budget,)` and what stands there, `(budget, d)`."""
        raise NotImplementedError


@dataclass(frozen=True)
class TomePruner(MergingPruner):
    """Bipartite matching, the rule of ToMe (Bolya et al., 2022), until the budget is left.

    Its authors merge a few tokens in each layer of the vision tower, by the keys of its attention, and have attention
    weigh a token by how many it stands for. Here projected tokens are merged, by their own cosines, at most half of
    them at a time, and the language model weighs all alike.
    """

    def merge(self, visual: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        place = torch.arange(len(visual), device=visual.device)  # where each token is averaged
        while True:
            left, group, sizes = place.unique(return_inverse=True, return_counts=True)
            tokens = torch.zeros_like(visual[: len(left)]).index_add_(0, group, visual) / sizes[:, None]
            if len(left) == budget:
                return left, tokens
            gone, into = matching(tokens, len(left) - budget)
            place = left.index_copy(0, gone, left[into])[group]


def matching(tokens: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Which of `tokens` `(n, d)`, two or more, are merged, and into which, `(min(most, n // 2),)` each.

    Every other token, from the first, is paired with the most similar of the rest; the most similar pairs are merged.
    """
    unit = normalize(tokens, dim=1)
    similarity, match = (unit[::2] @ unit[1::2].T).max(1)
    chosen = similarity.sort(descending=True, stable=True).indices[: min(most, len(tokens) // 2)]
    return 2 * chosen, 2 * match[chosen] + 1


@dataclass(frozen=True)
class PooledPruner(MergingPruner):
    """The image at a lower resolution, for models that see squares of fixed size: the square of tokens that shows the
    whole image is averaged to the largest one within the budget, which stands in its first places. Where the budget has
    room for more than that square, each of an image's tiles is averaged so.

    Args:
        side: tokens per side of the square; 0 where an image is one.
        first: the place of its first token, from the end where it is negative.
        tiled: whether all tokens of an image are in squares of this size, one behind the other.
    """

    side: int = 0
    first: int = 0
    tiled: bool = False

    def budget(self, n: int) -> int:
        starts, small = self._squares(n)
        return len(starts) * small**2

    def merge(self, visual: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        n, side = len(visual), self.side or isqrt(len(visual))
        if not self.side and side * side != n:
            raise ValueError(
                f"an image of {n} visual tokens is no square, as 'resized' needs it: leave this method out"
            )
        starts, small = self._squares(n)
        squares = torch.stack([visual[start : start + side**2] for start in starts])
        pooled = adaptive_avg_pool2d(squares.mT.unflatten(2, (side, side)), small).flatten(2).mT
        first = torch.tensor([*starts], device=visual.device)
        return (first[:, None] + torch.arange(small**2, device=visual.device)).flatten(), pooled.flatten(0, 1)

    def _squares(self, n: int) -> tuple[range, int]:
        """Where the squares begin that are averaged, of an image of `n` tokens, and tokens per side of what they
        become."""
        budget, square = super().budget(n), self.side**2 or n
        if self.tiled and budget > square:
            return range(0, n, square), isqrt(budget * square // n)
        return range(self.first % n, self.first % n + 1), isqrt(min(budget, square))
