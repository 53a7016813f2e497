"""The selections among the visual tokens of one image, stated in plain torch; they run on any device without waiting.

`n` is the number of visual tokens of an image, `m` of prompt tokens, `d` the hidden size, `l` the budget. What
`zspa_lookahead` does faster on a CPU and `zspa_kernels` on a GPU chooses what is chosen here.
"""

import torch
from torch import Tensor

from .zspa_similarity import Cosines, centred, first_equal, first_minimum, unit_vectors

FLAT = 1e-6  # a range of relevance below which there is nothing to weigh
NO_RANK = 1e-6  # a gain of the determinant that is none but for rounding


class Greedy(Cosines):
    """The visual tokens `(n, d)` of one image, and the ways to add one token after the other.

    Args:
        visual: `(n, d)`, any floating dtype.
        centre: whether the mean visual token is taken off before they are compared with each other.
    """

    def __init__(self, visual: Tensor, centre: bool = False):
        super().__init__(centred(visual) if centre else visual)
        self.whole = Cosines(visual) if centre else self

    def relevance(self, prompt: Tensor, pooling: str) -> Tensor:
        """Cosine `(n,)` of each token to the pooled prompt `(m, d)` (paper, eq. 4, 5)."""
        return self.whole.to_prompt(prompt, pooling)

    def by_relevance(self, prompt: Tensor, pooling: str, count: int) -> Tensor:
        """The `count` tokens that are most relevant to the prompt, best first (paper, eq. 6, 7)."""
        return self.relevance(prompt, pooling).sort(descending=True, stable=True).indices[:count]

    def most_isolated(self) -> Tensor:
        """The token `()` whose nearest neighbour is farthest: where DivPrune begins."""
        return first_minimum(self.to_nearest())

    def by_diversity(self, first: Tensor, budget: int, quality: Tensor | None = None) -> Tensor:
        """Those that come first, `(k,)`, then always the token that is most unlike all selected ones (paper, eq. 8, 9).

        Args:
            quality: `(n,)` in [0, 1]; the dissimilarity of a token to its closest selected one is multiplied by it.

        Returns:
            `(budget,)` in the order they are selected.
        """
        order = [first]
        costs = weighed(self.to_closest(first), quality).scatter(0, first, torch.inf)
        for _ in range(budget - len(first)):
            added = first_minimum(costs)[None]
            order.append(added)
            costs = torch.maximum(costs, weighed(self.to_tokens(added)[0], quality)).scatter(0, added, torch.inf)
        return torch.cat(order)

    def by_weighted_diversity(self, quality: Tensor, flat: Tensor, budget: int) -> Tensor:
        """First the token of largest quality, then as `by_diversity`; where relevance is `flat`, diversity alone."""
        first = torch.where(flat, self.most_isolated(), quality.argmax())
        return self.by_diversity(first[None], budget, quality)

    def by_determinant(self, quality: Tensor, budget: int) -> Tensor:
        """Always the token that makes the determinant of `diag(q) C diag(q)` largest, `C` the cosines (Chen et al.,
        2018, "Fast greedy MAP inference for determinantal point process", algorithm 1). Once none makes it larger than
        rounding does, those of largest quality follow.

        Returns:
            `(budget,)` in the order they are selected.
        """
        gain = quality.square().where(self.scale > 0, 0.0)  # what the determinant would be multiplied by
        factor = gain.new_zeros(budget, len(gain))  # of the kernel, by Cholesky
        taken = torch.zeros_like(gain)
        order = []
        for step in range(budget):
            left = gain.where(taken == 0, -1.0)
            spent = left.amax() <= NO_RANK
            pick = torch.where(spent, (quality - taken).argmax(), first_minimum(-left))[None]
            order.append(pick)
            row = quality[pick] * self.to_tokens(pick)[0] * quality - (factor[:step, pick] * factor[:step]).sum(0)
            factor[step] = torch.where(spent, 0.0, row / gain[pick].clamp_min(NO_RANK).sqrt())
            gain = gain - factor[step].square()
            taken = taken.scatter(0, pick, 2.0)
        return torch.cat(order)

    def by_coverage(self, prompt: Tensor, budget: int, alpha: float, tau_vision: float, tau_text: float) -> Tensor:
        """Always the token that makes the coverage of the prompt and the image largest (Dong et al., 2025, MMTok).

        A set S covers `mean_t max_{s in S} A[t, s] + alpha · mean_v max_{s in S} B[v, s]`: A is a softmax over the
        visual tokens of the cosines of prompt token t, at temperature `tau_text`; B that of visual token v, at
        `tau_vision`. Memory is `(n + m) · n`.

        Returns:
            `(budget,)` in the order they are selected.
        """
        tokens = torch.arange(len(self.scale), device=self.scale.device)
        parts = [alpha / len(tokens) * torch.softmax(self.to_tokens(tokens) / tau_vision, dim=1)]
        if len(prompt):
            cosines = unit_vectors(prompt) @ self.whole.tokens.float().T * self.whole.scale
            best = cosines.amax(0)
            flat = best.amax() - best.amin() < FLAT
            parts.append(torch.softmax(cosines / tau_text, dim=1) / len(prompt) * ~flat)
        coverage = torch.cat(parts)  # what a token gives each target, `(targets, n)`
        # A product of matrices rounds equal columns differently; what is looked up for the first of them is equal.
        first = first_equal(self.whole.tokens, self.whole.scale)
        covered = coverage.new_zeros(len(coverage), 1)
        taken = torch.zeros_like(self.scale)
        order = []
        for _ in range(budget):
            gain = (coverage - covered).clamp_min_(0).sum(0)[first]
            pick = (gain - taken).argmax()[None]
            order.append(pick)
            covered = torch.maximum(covered, coverage.index_select(1, pick))
            taken = taken.scatter(0, pick, torch.inf)
        return torch.cat(order)


def weighed(cosines: Tensor, quality: Tensor | None) -> Tensor:
    """What diversity minimises, of cosines to selected tokens `(..., n)`: 1 - q · (1 - cosine), the cosine at q = 1."""
    return cosines if quality is None else cosines * quality + (1 - quality)


def quality_of(relevance: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """How much a token counts.

    Args:
        relevance: `(..., n)`.
        weight: in [-1, 1]; below 0 what is unlike the prompt is favoured.

    Returns:
        `(..., n)` in [0, 1], and `(...)` whether the relevance is so flat that there is nothing to weigh; all are 1
        then.
    """
    low, high = relevance.amin(-1, keepdim=True), relevance.amax(-1, keepdim=True)
    flat = high - low < FLAT
    scaled = (relevance - low) / (high - low).clamp_min(FLAT)
    share = abs(weight)
    quality = 1 - share + share * (1 - scaled if weight < 0 else scaled)
    return torch.where(flat, 1.0, quality), flat[..., 0]
