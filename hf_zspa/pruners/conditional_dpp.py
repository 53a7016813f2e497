"""A determinantal point process conditioned on the prompt, the formula of CDPruner."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remote_code.zspa_similarity import unit_vectors
from .one_by_one import OneByOne, first_equal

_NO_RANK = 1e-6


@dataclass(frozen=True)
class ConditionalDppPruner(OneByOne):
    """A determinantal point process conditioned on the prompt, the formula of CDPruner (Zhang et al., 2025).

    The kernel is `diag(r) L diag(r)` with `L` the cosines among visual tokens and `r` each token's relevance to the
    prompt, scaled to [0, 1] by its smallest and largest value. The subset of largest determinant is sought greedily,
    with the incremental Cholesky factor of Chen et al. (2018), "Fast greedy MAP inference for determinantal point
    process", algorithm 1.

    CDPruner takes relevance from CLIP's text tower where the model has one, on LLaVA with its sign turned round, as
    CLIP's patches match the text least where the object is. Here it is the cosine to the mean prompt embedding of the
    language model, for every family; hence the name. Without a prompt the relevance is 1 everywhere.
    """

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        visual = unit_vectors(visual)
        quality = _relevance_in_unit_range(visual, prompt)
        gain = (quality * visual.norm(dim=1)).square()  # what the determinant would be multiplied by
        first = first_equal(visual)
        factor = visual.new_zeros(budget, len(visual))
        chosen = torch.empty(budget, dtype=torch.long, device=visual.device)
        free = torch.ones(len(visual), dtype=torch.bool, device=visual.device)
        for step in range(budget):
            # Once the kernel has no rank left, the gains are rounding noise: then the most relevant ones follow.
            spent = gain.where(free, -1).amax() <= _NO_RANK
            pick = torch.where(spent, quality, gain)[first].where(free, -torch.inf).argmax()
            chosen[step] = pick
            row = quality[pick] * (visual @ visual[pick]) * quality - factor[:step, pick] @ factor[:step]
            factor[step] = row / gain[pick].clamp_min(_NO_RANK).sqrt() * ~spent
            gain = gain - factor[step].square()
            free[pick] = False
        return chosen


def _relevance_in_unit_range(visual: Tensor, prompt: Tensor) -> Tensor:
    """Cosine of each of `(n, d)` unit vectors to the mean of `prompt` `(m, d)`, scaled to [0, 1]; all 1 if constant."""
    if not len(prompt):
        return visual.new_ones(len(visual))
    relevance = (visual * unit_vectors(prompt.float().mean(0))).sum(1)
    low, high = relevance.amin(), relevance.amax()
    return torch.where(high > low, (relevance - low) / (high - low).clamp_min(_NO_RANK), 1.0)
