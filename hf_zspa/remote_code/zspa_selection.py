"""ZSPAPrune (Zhang et al., 2025, section 3.3) as a visual token pruner, and what every pruner of a method shares.

`n` is the number of visual tokens of an image, `m` of prompt tokens, `d` the hidden size, `l` the budget, `k` the core.
It knows no model.
"""

from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .zspa_checks import CHECKS, round_half_up
from .zspa_greedy import Greedy
from .zspa_kernels import select_on_gpu
from .zspa_lookahead import GreedyOnCpu
from .zspa_similarity import Cosines, on_cpu, plain_precision

METHODS: dict[str, type["Pruner"]] = {}  # the methods that travel, by name


@runtime_checkable
class VisualTokenPruner(Protocol):
    """Chooses the visual tokens to keep: what a `LogitsProcessor` is to scores, a pruner is to visual tokens."""

    def budget(self, n: int) -> int:
        """Tokens kept of `n`, 1 to `n`; it is asked before any feature is known."""
        ...

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        """
        Args:
            visual_tokens: per image `(n_i, d)`, projected features in the model's dtype.
            prompt_tokens: per image `(m_i, d)`, embeddings of the text of its prompt; `m_i` may be 0.

        Returns:
            Per image the kept indices, ascending, `(budget(n_i),)`, int64.
        """
        ...


@dataclass(frozen=True)
class Pruner:
    """A pruner that treats each image by itself, whatever else is in a batch.

    A method is `select` for one image, and `select_together` where a GPU can do all images at once.
    """

    keep_ratio: float = 0.1

    def __init_subclass__(cls, method: str = "", **kwargs):
        super().__init_subclass__(**kwargs)
        if method:
            METHODS[method] = cls

    def __post_init__(self):
        for field in fields(self):
            if field.name in CHECKS:  # a class that builds on this one may have others
                CHECKS[field.name](field.name, getattr(self, field.name))

    @property
    def vouches_for_indices(self) -> bool:
        """Whether its indices need no check: those of this package's own need none."""
        return type(self) in METHODS.values()

    def budget(self, n: int) -> int:
        return max(1, round_half_up(self.keep_ratio * n))

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        return [order.sort().values for order in self.in_order(visual_tokens, prompt_tokens)]

    @torch.no_grad()
    def in_order(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        """Per image the tokens `(l,)` in the order they are selected; arguments are those of a call."""
        _check_tokens(visual_tokens, prompt_tokens)
        budgets = [self.budget(len(visual)) for visual in visual_tokens]
        here = all(map(on_cpu, visual_tokens))
        with plain_precision(visual_tokens):
            orders = None if here else self.select_together(visual_tokens, prompt_tokens, budgets)
            if orders is None:
                way, centre = GreedyOnCpu if here else Greedy, getattr(self, "centre", False)
                images = zip(visual_tokens, prompt_tokens, budgets)
                orders = [self.select(way(visual, centre), prompt, budget) for visual, prompt, budget in images]
        return orders

    def select(self, image: Greedy, prompt: Tensor, budget: int) -> Tensor:
        """The tokens of one image `(budget,)`, int64, in the order they are selected, for a prompt `(m, d)`."""
        raise NotImplementedError

    def select_together(self, visual_tokens: list[Tensor], prompts: list[Tensor], budgets: list[int]):
        """As `select`, for all images of a batch in a few launches; None where that is not to be had."""
        return None

    def split(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Per image those kept that are among the `l` most relevant of all to the prompt, and the others, in the order
        they are selected; the first is empty where there is no prompt."""
        pooling = getattr(self, "pooling", "none")
        parts = []
        for visual, prompt, order in zip(visual_tokens, prompt_tokens, self.in_order(visual_tokens, prompt_tokens)):
            near = torch.zeros(len(order), dtype=torch.bool, device=order.device)
            if len(prompt):
                best = relevance(visual, prompt, pooling).sort(descending=True, stable=True).indices[: len(order)]
                near = torch.isin(order, best)
            parts.append((order[near], order[~near]))
        return parts


@dataclass(frozen=True)
class ZspaPruner(Pruner, method="zspa"):
    """ZSPAPrune: a core of tokens relevant to the prompt, then tokens as different as possible from all kept so far.

    The two baselines of the paper are the ends of one dial: `core_ratio=1` is "All-in Task-Relevance",
    `core_ratio=0` is DivPrune (the max-min diversity problem).

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1]; the budget is `l = max(1, round(keep_ratio · n))`.
        core_ratio: share of the budget chosen by relevance, in [0, 1]; the core is `k = round(core_ratio · l)`.
        pooling: how prompt tokens are aggregated (paper, Table 4): "mean", "max" or "none".
        centre: whether an image's mean token is taken off before similarities among its tokens, not those to the
            prompt.

    Raises:
        ValueError: a parameter is outside its range.
    """

    core_ratio: float = 0.2
    pooling: str = "mean"
    centre: bool = False

    def core(self, n: int) -> int:
        """Tokens of the budget of `n` that are chosen by relevance."""
        return round_half_up(self.core_ratio * self.budget(n))

    def select(self, image: Greedy, prompt: Tensor, budget: int) -> Tensor:
        core = self.core(len(image.scale)) if len(prompt) else 0
        first = image.by_relevance(prompt, self.pooling, core) if core else image.most_isolated()[None]
        return image.by_diversity(first, budget)

    def select_together(self, visual_tokens, prompts, budgets):
        cores = [self.core(len(visual)) if len(prompt) else 0 for visual, prompt in zip(visual_tokens, prompts)]
        return select_on_gpu(visual_tokens, prompts, budgets, self.pooling, self.centre, cores=cores)

    def split(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Per image the core `(k,)`, most relevant first, and the diversity tokens `(l - k,)`, in the order added."""
        orders = self.in_order(visual_tokens, prompt_tokens)
        cores = [self.core(len(visual)) if len(prompt) else 0 for visual, prompt in zip(visual_tokens, prompt_tokens)]
        return [(order[:core], order[core:]) for order, core in zip(orders, cores)]


def relevance(visual: Tensor, prompt: Tensor, pooling: str = "mean") -> Tensor:
    """Cosine similarity `(n,)`, float32, of each visual token `(n, d)` to the pooled prompt `(m, d)` (eq. 4, 5)."""
    _check_tokens([visual], [prompt])
    with plain_precision([visual]):
        return Cosines(visual).to_prompt(prompt, pooling)


def _check_tokens(visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> None:
    if len(visual_tokens) != len(prompt_tokens):
        raise ValueError(f"{len(visual_tokens)} images need as many prompts, but there are {len(prompt_tokens)}")
    for visual, prompt in zip(visual_tokens, prompt_tokens):
        if visual.ndim != 2 or prompt.ndim != 2 or visual.shape[1] != prompt.shape[1] or 0 in visual.shape:
            raise ValueError(
                f"visual tokens are {tuple(visual.shape)} and prompt tokens {tuple(prompt.shape)}, but must be "
                "(n, d) and (m, d) of the same hidden size d, with n at least 1"
            )
