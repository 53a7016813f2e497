"""The ZSPAPrune selection, equations 4 to 9 of the paper (Zhang et al., 2025, section 3.3), and its pruner.

`n` is the number of visual tokens of an image, `m` of prompt tokens, `d` the hidden size, `l` the budget, `k` the core.
It knows no model.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .zspa_kernels import select_on_gpu
from .zspa_lookahead import select_on_cpu
from .zspa_similarity import Cosines, first_minimum, on_cpu, plain_precision

POOLINGS = ("mean", "max", "none")


def select_in_order(visual: Tensor, prompt: Tensor, budget: int, core: int, pooling: str) -> Tensor:
    """The selection, stated in plain torch. It runs on any device without waiting for it.

    `select_on_cpu` and `select_on_gpu` do the same faster: they choose what this chooses.

    Args:
        visual: `(n, d)`, any floating dtype.
        prompt: `(m, d)`.
        budget: tokens kept, 1 to `n`.
        core: how many of them are chosen by relevance, 0 to `budget`; 0 where there is no prompt.
        pooling: "mean", "max" or "none".

    Returns:
        `(budget,)` int64: the tokens in the order they are selected, core first. Ties go to the lowest index.
    """
    cosines = Cosines(visual)
    if core:
        scores = cosines.to_prompt(prompt, pooling)  # eq. 4, 5: the relevance of each token
        selected = scores.sort(descending=True, stable=True).indices[:core]  # eq. 6, 7: the core
    else:  # DivPrune: the token whose nearest neighbour is farthest
        selected = first_minimum(cosines.to_nearest())[None]
    order = [selected]
    redundancy = cosines.to_closest(selected).scatter(0, selected, torch.inf)
    for _ in range(budget - len(selected)):
        added = first_minimum(redundancy)[None]  # eq. 8: the token that is most unlike all selected ones
        order.append(added)
        redundancy = torch.maximum(redundancy, cosines.to_tokens(added)[0]).scatter(0, added, torch.inf)  # eq. 9
    return torch.cat(order)


def round_half_up(value: float) -> int:
    """Nearest integer, halves up; 0.145 · 100 counts as the half it is on paper, not as 14.499… of binary floats."""
    return math.floor(value + 0.5 + 1e-9)


def check_ratio(name: str, value: float, *, zero_allowed: bool) -> float:
    """Returns `value` as a float, or raises `ValueError` naming the field, the value and what is allowed."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1 or (value == 0 and not zero_allowed):
        allowed = "[0, 1]" if zero_allowed else "(0, 1]"
        raise ValueError(f"{name} is {value!r}, but must be a number in {allowed}")
    return float(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Returns `value`, or raises `ValueError` naming the field, the value and the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but must be {' or '.join(map(repr, choices))}")
    return value


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
class ZspaPruner:
    """ZSPAPrune: a core of tokens relevant to the prompt, then tokens as different as possible from all kept so far.

    The two baselines of the paper are the ends of one dial: `core_ratio=1` is "All-in Task-Relevance",
    `core_ratio=0` is DivPrune (the max-min diversity problem).

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1]; the budget is `l = max(1, round(keep_ratio · n))`.
        core_ratio: share of the budget chosen by relevance, in [0, 1]; the core is `k = round(core_ratio · l)`.
        pooling: how prompt tokens are aggregated (paper, Table 4): "mean", "max" or "none".

    Raises:
        ValueError: a parameter is outside its range.
    """

    keep_ratio: float = 0.1
    core_ratio: float = 0.2
    pooling: str = "mean"

    def __post_init__(self):
        check_ratio("keep_ratio", self.keep_ratio, zero_allowed=False)
        check_ratio("core_ratio", self.core_ratio, zero_allowed=True)
        check_choice("pooling", self.pooling, POOLINGS)

    def budget(self, n: int) -> int:
        return max(1, round_half_up(self.keep_ratio * n))

    def core(self, n: int) -> int:
        """Tokens of the budget of `n` that are chosen by relevance."""
        return round_half_up(self.core_ratio * self.budget(n))

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        return [order.sort().values for order, _ in self._in_order(visual_tokens, prompt_tokens)]

    def split(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Per image the core `(k,)`, most relevant first, and the diversity tokens `(l - k,)`, in the order added."""
        return [(order[:core], order[core:]) for order, core in self._in_order(visual_tokens, prompt_tokens)]

    @torch.no_grad()
    def _in_order(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, int]]:
        """Per image the tokens in the order they are selected, `(l,)`, and how many of them are the core."""
        _check_tokens(visual_tokens, prompt_tokens)
        budgets = [self.budget(len(visual)) for visual in visual_tokens]
        cores = [self.core(len(visual)) if len(prompt) else 0 for visual, prompt in zip(visual_tokens, prompt_tokens)]
        here = all(map(on_cpu, visual_tokens))
        with plain_precision(visual_tokens):
            orders = None if here else select_on_gpu(visual_tokens, prompt_tokens, budgets, cores, self.pooling)
            if orders is None:
                select = select_on_cpu if here else select_in_order
                orders = [select(*image, self.pooling) for image in zip(visual_tokens, prompt_tokens, budgets, cores)]
        return list(zip(orders, cores))


def select_tokens(
    visual: Tensor, prompt: Tensor, *, keep_ratio: float, core_ratio: float, pooling: str = "mean"
) -> Tensor:
    """The visual tokens of one image that ZSPAPrune keeps.

    Args:
        visual: `(n, d)` projected visual tokens, any floating dtype; similarities are computed in float32.
        prompt: `(m, d)` prompt token embeddings; with `m = 0` the selection is by diversity alone.
        keep_ratio: share kept, in (0, 1].
        core_ratio: share of the kept tokens chosen by relevance to the prompt, in [0, 1].
        pooling: "mean" (eq. 4), "max" or "none" (Table 4).

    Returns:
        Ascending indices of the kept tokens, `(max(1, round(keep_ratio · n)),)`, int64.

    Raises:
        ValueError: a ratio outside its range, an unknown pooling, or tensors of the wrong shape.
    """
    return ZspaPruner(keep_ratio, core_ratio, pooling)([visual], [prompt])[0]


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
