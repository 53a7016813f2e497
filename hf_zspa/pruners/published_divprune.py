"""DivPrune as it is published, restated from its paper to compare the cost with; nothing here is used to prune."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remote_code.zspa_selection import ZspaPruner
from ..remote_code.zspa_similarity import plain_precision


def published_divprune(visual: Tensor, budget: int) -> Tensor:
    """The max-min diversity selection with the published algorithm's cost (Alvar et al., 2025, algorithm 1).

    All distances are computed first. Each step then reads the rows of all tokens selected so far once more to find
    every token's smallest distance to them, so the work of the loop grows with the square of the budget.

    Args:
        visual: `(n, d)` visual tokens; distances are `1 - cosine` in their dtype.
        budget: tokens kept, 1 to n.

    Returns:
        Indices `(budget,)`, int64, in the order they are selected.
    """
    unit = torch.nn.functional.normalize(visual, dim=1)
    distance = (1 - unit @ unit.T).fill_diagonal_(-torch.inf)  # so that a selected token is never the farthest
    selected = torch.empty(budget, dtype=torch.long, device=visual.device)
    # The first token has the largest distance to its nearest neighbour; the smallest one of a row is to itself.
    selected[0] = distance.topk(min(2, len(visual)), dim=1, largest=False).values[:, -1].argmax()
    for step in range(1, budget):
        selected[step] = distance[selected[:step]].amin(0).argmax()
    return selected


@dataclass(frozen=True)
class PublishedDivPrune:
    """`published_divprune` as a `VisualTokenPruner`."""

    keep_ratio: float = 0.1
    vouches_for_indices = True  # not checked, as little as this package's own

    def budget(self, n: int) -> int:
        return ZspaPruner(self.keep_ratio).budget(n)

    @torch.no_grad()
    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        with plain_precision(visual_tokens):
            return [published_divprune(v, self.budget(len(v))).sort().values for v in visual_tokens]
