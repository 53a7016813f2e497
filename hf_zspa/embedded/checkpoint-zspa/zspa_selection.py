"""The ZSPAPrune selection as pure tensor maths: it knows no model.

`n` is the number of visual tokens of an image, `m` of prompt tokens, `d` the hidden size, `l` the budget, `k` the
core. Equations are those of the paper, ZSPAPrune (Zhang et al., 2025), section 3.3.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

POOLINGS = ("mean", "max", "none")
_ROUNDING = 2.0**-20  # cosines this close are equal as far as float32 can tell
_BLOCK = 1 << 24  # similarities held at once while looking for isolated tokens (64 MiB in float32)
_AHEAD = 32  # columns of similarities computed in one pass over the features, which takes hardly longer than for one
_COLUMNS = 128  # of them kept at most, for later steps


def round_half_up(value: float) -> int:
    """Nearest integer, halves up; 0.145 · 100 counts as the half it is on paper, not as 14.499… of binary floats."""
    return math.floor(value + 0.5 + 1e-9)


def check_ratio(name: str, value: float, *, zero_allowed: bool) -> float:
    """Returns `value` as a float, or raises `ValueError` naming the field, the value and what is allowed."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value > 1 or value < 0 or (value == 0 and not zero_allowed):
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
        return [torch.cat(parts).sort().values for parts in self.split(visual_tokens, prompt_tokens)]

    @torch.no_grad()
    def split(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Per image the core `(k,)`, most relevant first, and the diversity tokens `(l - k,)`, in the order added."""
        _check_tokens(visual_tokens, prompt_tokens)
        if visual_tokens and visual_tokens[0].device.type == "cpu":  # nothing is gained by padding there
            return [self._split_together([v], [p])[0] for v, p in zip(visual_tokens, prompt_tokens)]
        return self._split_together(visual_tokens, prompt_tokens)

    def _split_together(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        sizes = [len(v) for v in visual_tokens]
        budgets = [self.budget(n) for n in sizes]
        cores = [self.core(n) if len(p) else 0 for n, p in zip(sizes, prompt_tokens)]
        visual, valid = _stack_unit_vectors(visual_tokens)
        seeds = [max(1, k) for k in cores]
        order = _seed(visual, valid, prompt_tokens, cores, self.pooling)
        added = _add_diverse(visual, valid, order, seeds, max(n - k for n, k in zip(budgets, seeds)))
        parts = []
        for i, (budget, seed, core) in enumerate(zip(budgets, seeds, cores)):
            kept = torch.cat([order[i, :seed], added[i, : budget - seed]])
            parts.append((kept[:core], kept[core:]))
        return parts


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
    return _relevance(unit_vectors(visual), prompt, pooling)


def unit_vectors(tokens: Tensor) -> Tensor:
    """Rows of `(..., d)` scaled to length 1 in float32; rows that are zero, or not finite, become zero.

    Dividing by the largest entry first keeps the squares of tiny and huge entries inside the range of float32. Where
    looking at the norms costs nothing, on a CPU, that is done only when it must be.
    """
    if tokens.device.type == "cpu":
        norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=torch.float32)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return (tokens / norm).float()
    tokens = tokens.float()
    tokens = torch.nan_to_num(tokens / tokens.abs().amax(-1, keepdim=True), nan=0.0)
    return torch.nan_to_num(tokens / tokens.norm(dim=-1, keepdim=True), nan=0.0)


def _check_tokens(visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> None:
    if len(visual_tokens) != len(prompt_tokens):
        raise ValueError(f"{len(visual_tokens)} images need as many prompts, but there are {len(prompt_tokens)}")
    for visual, prompt in zip(visual_tokens, prompt_tokens):
        if visual.ndim != 2 or prompt.ndim != 2 or visual.shape[1] != prompt.shape[1] or 0 in visual.shape:
            raise ValueError(
                f"visual tokens are {tuple(visual.shape)} and prompt tokens {tuple(prompt.shape)}, but must be "
                "(n, d) and (m, d) of the same hidden size d, with n at least 1"
            )


def _stack_unit_vectors(visual_tokens: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Unit vectors `(images, n, d)`, padded with zeros to the longest image, and which are real `(images, n)`."""
    units = [unit_vectors(v) for v in visual_tokens]
    visual = torch.nn.utils.rnn.pad_sequence(units, batch_first=True) if len(units) > 1 else units[0][None]
    lengths = torch.tensor([len(v) for v in visual_tokens]).to(visual.device, non_blocking=True)
    return visual, torch.arange(visual.shape[1], device=visual.device) < lengths[:, None]


def _relevance(visual: Tensor, prompt: Tensor, pooling: str) -> Tensor:
    """Scores `(n,)` of unit vectors `(n, d)` (eq. 5). "none" takes each token's best cosine over the prompt tokens."""
    if pooling == "none":
        return (visual @ unit_vectors(prompt).T).amax(1)
    prompt = prompt.float()
    prompt = prompt / prompt.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    pooled = unit_vectors(prompt.mean(0) if pooling == "mean" else prompt.amax(0))
    return (visual * pooled).sum(1)  # a matrix product may round equal tokens differently


def _seed(visual: Tensor, valid: Tensor, prompts: list[Tensor], cores: list[int], pooling: str) -> Tensor:
    """Where the selection starts, `(images, longest seed)`: the core (eq. 6, 7), or else the most isolated token."""
    order = torch.zeros(len(cores), max(1, *cores), dtype=torch.long, device=visual.device)
    for i, (prompt, core) in enumerate(zip(prompts, cores)):
        if core:
            scores = _relevance(visual[i], prompt, pooling).masked_fill(~valid[i], -torch.inf)
            order[i, :core] = scores.sort(descending=True, stable=True).indices[:core]
        else:
            order[i, 0] = _first_minimum(_nearest_neighbour(visual[i], valid[i]))
    return order


def _first_minimum(values: Tensor) -> Tensor:
    """Index of the smallest of `(..., n)`; of those that are equal but for rounding, the lowest index."""
    return (values <= values.amin(-1, keepdim=True) + _ROUNDING).byte().argmax(-1)


def _nearest_neighbour(visual: Tensor, valid: Tensor) -> Tensor:
    """Largest similarity of each token to any other, `(n,)`; blocks of rows keep the memory linear in n."""
    n = len(visual)
    nearest = torch.full((n,), -torch.inf, device=visual.device)
    size = max(1, min(_BLOCK // n, max(128, n // 8)))
    for start in range(0, n, size):
        # Each pair once: a block holds its rows' similarities to themselves and to all later tokens.
        similarity = visual[start : start + size] @ visual[start:].T
        similarity.masked_fill_(~valid[start:], -torch.inf).fill_diagonal_(-torch.inf)
        rows = nearest[start : start + size]
        rows.copy_(torch.maximum(rows, similarity.amax(1)))
        later = nearest[start:]
        later.copy_(torch.maximum(later, similarity.amax(0)))
    return nearest.masked_fill(~valid, torch.inf)


def _add_diverse(visual: Tensor, valid: Tensor, order: Tensor, seeds: list[int], steps: int) -> Tensor:
    """Greedy max-min diversity (eq. 8, 9): each step adds the token whose closest selected token is farthest.

    Args:
        visual: `(images, n, d)` unit vectors.
        valid: `(images, n)` which of them are real.
        order: `(images, s)` the tokens selected already, the first `seeds[i]` of each row.
        steps: tokens to add.

    Returns:
        The tokens added, `(images, steps)`. A row that has run out of tokens is filled up with any index.
    """
    seeded = torch.arange(order.shape[1]) < torch.tensor(seeds)[:, None]
    order = order.where(seeded.to(order.device, non_blocking=True), order[:, :1])
    selected = visual.gather(1, order[..., None].expand(-1, -1, visual.shape[-1]))
    closest = (visual @ selected.transpose(1, 2)).amax(2).masked_fill(~valid, torch.inf)
    closest = closest.scatter(1, order, torch.inf)
    if visual.device.type == "cpu":
        return torch.stack([_look_ahead(v, c, steps) for v, c in zip(visual, closest)])
    rows = torch.arange(len(visual), device=visual.device)
    added = torch.empty(len(visual), steps, dtype=torch.long, device=visual.device)
    for step in range(steps):
        pick = _first_minimum(closest)
        added[:, step] = pick
        similarity = (visual @ visual[rows, pick][..., None]).squeeze(2)
        closest = torch.maximum(closest, similarity).scatter(1, pick[:, None], torch.inf)
    return added


def _look_ahead(visual: Tensor, closest: Tensor, steps: int) -> Tensor:
    """The loop of `_add_diverse` for one image on a CPU, where reading all features at each step is what takes time.

    A step needs the similarities of one token to all. The tokens that are best now are mostly those of the next steps
    too, so one pass over the features computes the similarities of several; which ones never changes a choice.

    Args:
        visual: `(n, d)` unit vectors.
        closest: `(n,)` similarity to the closest selected token, infinite on those selected; it is overwritten.
        steps: tokens to add.

    Returns:
        The tokens added, `(steps,)`.
    """
    added: list[int] = []
    similarities: dict[int, Tensor] = {}
    equal = torch.empty_like(closest, dtype=torch.bool)
    for _ in range(steps):
        torch.le(closest, closest.amin() + _ROUNDING, out=equal)
        pick = int(equal.view(torch.uint8).argmax())
        if pick not in similarities:
            best = closest.topk(min(_AHEAD, len(closest)), largest=False).indices.tolist()
            ahead = [pick, *(token for token in best if token != pick and token not in similarities)][:_AHEAD]
            similarities.update(zip(ahead, visual[ahead] @ visual.T))
            for token in list(similarities)[: max(0, len(similarities) - _COLUMNS)]:
                del similarities[token]
        torch.maximum(closest, similarities.pop(pick), out=closest)
        closest[pick] = torch.inf
        added.append(pick)
    return torch.tensor(added, dtype=torch.long)
