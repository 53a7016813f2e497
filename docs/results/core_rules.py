"""Rules for the size of the core that look at the image and the prompt at hand, and the pruner that obeys them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_zspa.pruners.one_by_one import OneByOne
from hf_zspa.remote_code.zspa_checks import round_half_up
from hf_zspa.remote_code.zspa_lookahead import GreedyOnCpu
from hf_zspa.remote_code.zspa_selection import ZspaPruner, relevance
from hf_zspa.remote_code.zspa_similarity import unit_vectors

_SAME = 1e-4  # relative distance of pooled prompts that differ by rounding alone

# How many tokens the core has, from the relevance `(n,)` of the visual tokens to the prompt, that to unrelated prompts
# `(n, k)`, and the budget.
CoreRule = Callable[[Tensor, Tensor, int], int]


@dataclass(frozen=True)
class StudiedPruner(OneByOne):
    """ZSPAPrune with a rule for the size of the core, and with or without the direction all visual tokens share.

    Args:
        rule: the size of the core; it is cut to the budget.
        centre: of which comparison the mean visual token is taken off first: "relevance", "diversity", "both" or
            "neither".
        unrelated: prompts `(k, d)` of questions about other images, one pooled vector each; or None. Those with
            the words of the prompt at hand, in whatever order, are left out: they are not unrelated to it.
        excess: whether the core is chosen by how far relevance exceeds the mean over the unrelated prompts.
    """

    rule: CoreRule = lambda scores, unrelated, budget: 0
    centre: str = "neither"
    unrelated: Tensor | None = None
    excess: bool = False

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        centred = visual - visual.mean(0)
        scores = relevance(centred if self.centre in ("relevance", "both") else visual, prompt)
        others = scores[:, None]
        if self.unrelated is not None:
            others = unit_vectors(visual) @ unit_vectors(_unlike(self.unrelated, prompt)).T
        if self.excess:
            scores = scores - others.mean(1)
        core = min(budget, self.rule(scores, others, budget))
        compared = centred if self.centre in ("diversity", "both") else visual
        if core == 0:
            return ZspaPruner(self.keep_ratio, 0.0)([compared], [prompt])[0]
        order = scores.sort(descending=True, stable=True).indices[:core]
        return GreedyOnCpu(compared).by_diversity(order, budget)


def _unlike(unrelated: Tensor, prompt: Tensor) -> Tensor:
    """Those of `unrelated` `(k, d)` that are not the mean of `prompt` `(m, d)`, but for rounding."""
    pooled = prompt.mean(0)
    distance = torch.linalg.vector_norm(unrelated - pooled, dim=1)
    return unrelated[distance > _SAME * torch.linalg.vector_norm(pooled)]


def share(ratio: float) -> CoreRule:
    """A fixed share of the budget."""
    return lambda scores, unrelated, budget: round_half_up(ratio * budget)


def outliers(deviations: float) -> CoreRule:
    """Tokens whose relevance is that many standard deviations above the mean."""
    return lambda scores, unrelated, budget: int((scores > scores.mean() + deviations * scores.std()).sum())


def near_best(fraction: float) -> CoreRule:
    """Tokens whose relevance is above that fraction of the way from the mean to the best."""
    return lambda scores, unrelated, budget: int(
        (scores > scores.mean() + fraction * (scores.max() - scores.mean())).sum()
    )


def outlier_share(deviations: float) -> CoreRule:
    """All of the budget if as few tokens stand out as it has room for; the more of them, the smaller the core."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        found = int((scores > scores.mean() + deviations * scores.std()).sum())
        return found if found <= budget else round_half_up(budget * budget / found)

    return rule


def half_when_crowded(deviations: float) -> CoreRule:
    """The tokens that stand out if at most half of the budget does, else none: they would crowd out the rest."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        found = int((scores > scores.mean() + deviations * scores.std()).sum())
        return found if 2 * found <= budget else 0

    return rule


def above_unrelated(share_of_prompts: float) -> CoreRule:
    """Tokens more relevant than the best token is to that share of the unrelated prompts."""
    return lambda scores, unrelated, budget: int((scores > unrelated.amax(0).quantile(share_of_prompts)).sum())


def by_surprise(deviations: float) -> CoreRule:
    """Half of the budget if the best token is so many deviations more relevant than the best to unrelated prompts are
    on average, in proportion below that, and none where it is not more relevant than they are."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        best = unrelated.amax(0)
        surprise = float((scores.max() - best.mean()) / best.std().clamp_min(1e-6))
        return round_half_up(budget * min(1.0, max(0.0, surprise / deviations)) / 2)

    return rule


@dataclass(frozen=True)
class Rule:
    """A rule for the size of the core, and whether what a token has for unrelated prompts is taken off first."""

    size: CoreRule
    excess: bool = False


RULES: dict[str, Rule] = {
    **{f"outliers {c}": Rule(outliers(c)) for c in (2.0, 2.5, 3.0, 4.0)},
    **{f"near best {f}": Rule(near_best(f)) for f in (0.5, 0.7, 0.9)},
    **{f"outlier share {c}": Rule(outlier_share(c)) for c in (2.0, 3.0)},
    **{f"half when crowded {c}": Rule(half_when_crowded(c)) for c in (1.5, 2.0, 3.0)},
    **{f"above unrelated {q}": Rule(above_unrelated(q)) for q in (0.5, 0.9, 1.0)},
    **{f"by surprise {c}": Rule(by_surprise(c)) for c in (1.0, 2.0, 4.0)},
    **{f"core {c}, excess": Rule(share(c), excess=True) for c in (0.1, 0.2, 0.4)},
    **{f"outliers {c}, excess": Rule(outliers(c), excess=True) for c in (2.0, 3.0, 4.0)},
    **{f"half when crowded {c}, excess": Rule(half_when_crowded(c), excess=True) for c in (2.0, 3.0)},
}
