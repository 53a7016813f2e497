"""The ZSPAPrune selection as pure tensor maths: it knows no model.

`n` is the number of visual tokens of an image, `m` of prompt tokens, `d` the hidden size, `l` the budget, `k` the
core. Equations are those of the paper, ZSPAPrune (Zhang et al., 2025), section 3.3.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .zspa_kernels import greedy

POOLINGS = ("mean", "max", "none")
_ROUNDING = 2.0**-20  # cosines this close are equal as far as float32 can tell
_BLOCK = 1 << 24  # similarities held at once while looking for isolated tokens (64 MiB in float32)
_GRAM = 1 << 28  # similarities of all pairs held at once on a GPU (1 GiB): one image of 16,384 tokens
_SMALL = 2048  # tokens of an image whose pairs are all kept on a CPU, once they have to be computed anyway
_AHEAD = 48  # columns of similarities computed in one pass over the features, which takes hardly longer than for one
_COLUMNS = 256  # of them kept at most, for later steps


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
        together = 1
        if visual_tokens and not on_cpu(visual_tokens[0]):  # nothing is gained by padding there
            together = max(1, _GRAM // max(len(v) for v in visual_tokens) ** 2)
        parts = []
        for first in range(0, len(visual_tokens), together):
            last = first + together
            parts += self._split_together(visual_tokens[first:last], prompt_tokens[first:last])
        return parts

    def _split_together(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        sizes = [len(v) for v in visual_tokens]
        budgets = [self.budget(n) for n in sizes]
        cores = [self.core(n) if len(p) else 0 for n, p in zip(sizes, prompt_tokens)]
        cosines = Cosines(visual_tokens)
        seeds = [max(1, k) for k in cores]
        order = _seed(cosines, prompt_tokens, cores, self.pooling)
        added = _add_diverse(cosines, order, seeds, max(n - k for n, k in zip(budgets, seeds)))
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
    return Cosines([visual]).to_prompt(0, prompt, pooling)


def unit_vectors(tokens: Tensor) -> Tensor:
    """Rows of `(..., d)` scaled to length 1 in float32; rows that are zero, or not finite, become zero.

    Dividing by the largest entry first keeps the squares of tiny and huge entries inside the range of float32. Where
    looking at the norms costs nothing, on a CPU, that is done only when it must be.
    """
    if on_cpu(tokens):
        norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=torch.float32)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return (tokens / norm).float()
    tokens = tokens.float()
    tokens = torch.nan_to_num(tokens / tokens.abs().amax(-1, keepdim=True), nan=0.0)
    return torch.nan_to_num(tokens / tokens.norm(dim=-1, keepdim=True), nan=0.0)


def on_cpu(tensor: Tensor) -> bool:
    """Whether results can be looked at without waiting; the way of computing differs, what is selected does not."""
    return tensor.device.type == "cpu"


def _check_tokens(visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> None:
    if len(visual_tokens) != len(prompt_tokens):
        raise ValueError(f"{len(visual_tokens)} images need as many prompts, but there are {len(prompt_tokens)}")
    for visual, prompt in zip(visual_tokens, prompt_tokens):
        if visual.ndim != 2 or prompt.ndim != 2 or visual.shape[1] != prompt.shape[1] or 0 in visual.shape:
            raise ValueError(
                f"visual tokens are {tuple(visual.shape)} and prompt tokens {tuple(prompt.shape)}, but must be "
                "(n, d) and (m, d) of the same hidden size d, with n at least 1"
            )


class Cosines:
    """Cosines between the visual tokens of some images, padded with zeros to the longest.

    The tokens are not made unit vectors, which would be one more copy of them: a cosine is a product of two tokens,
    scaled afterwards by both their norms. On a GPU the tokens stay in 16 bits if they came so, because the products of
    16-bit numbers are exact in float32. (Those of float32 tokens are not where a program has switched TF32 on.)

    Attributes:
        tokens: `(images, n, d)`.
        scale: `(images, n)` float32, 1 / norm of each token, 0 for a token that is zero or not finite.
        valid: `(images, n)` bool, False on padding.
        gram: `(images, n, n)` float32, all products, on a GPU and where they fit; else None.
    """

    def __init__(self, visual_tokens: list[Tensor]):
        several = len(visual_tokens) > 1
        padded = torch.nn.utils.rnn.pad_sequence(visual_tokens, True) if several else visual_tokens[0][None]
        self.tokens, self.scale = _tokens_and_scale(padded)
        lengths = torch.tensor([len(v) for v in visual_tokens]).to(padded.device, non_blocking=True)
        self.valid = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        self.gram = None
        if not on_cpu(padded):
            if padded.shape[0] * padded.shape[1] ** 2 <= _GRAM:
                self.gram = _products(self.tokens, self.tokens)
            else:
                self.tokens = self.tokens.float()

    def to_tokens(self, picks: Tensor) -> Tensor:
        """Cosines `(images, s, n)` of the tokens `picks` `(images, s)` to all tokens of their image."""
        scale = self.scale.gather(1, picks)[..., None]
        if self.gram is not None:
            products = self.gram.gather(1, picks[..., None].expand(-1, -1, self.gram.shape[2]))
            return products * scale * self.scale[:, None]
        chosen = self.tokens.gather(1, picks[..., None].expand(-1, -1, self.tokens.shape[2])) * scale
        # In this order the long side of the product is its rows, which is faster on a CPU.
        return (self.tokens @ chosen.mT).mul_(self.scale[..., None]).mT.contiguous()

    def among(self, image: int, rows: slice, columns: slice) -> Tensor:
        """Cosines `(rows, columns)` between two ranges of an image's tokens; those of a token to itself, and
        those of padding, are -inf."""
        scale = self.scale[image]
        if self.gram is not None:
            products = self.gram[image, rows, columns] * scale[rows, None]
        else:
            products = (self.tokens[image, rows] * scale[rows, None]) @ self.tokens[image, columns].T
        padding = ~(self.valid[image, rows, None] & self.valid[image, columns])
        products.mul_(scale[columns]).masked_fill_(padding, -torch.inf)
        products.diagonal(rows.start - columns.start).fill_(-torch.inf)
        return products

    def to_prompt(self, image: int, prompt: Tensor, pooling: str) -> Tensor:
        """Cosines `(n,)` to the pooled prompt (eq. 4, 5); "none" takes each token's best one over prompt tokens."""
        tokens, scale = self.tokens[image], self.scale[image]
        if pooling == "none":
            return (tokens.float() @ unit_vectors(prompt).T).amax(1) * scale
        prompt = prompt.float()
        prompt = prompt / prompt.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        pooled = unit_vectors(prompt.mean(0) if pooling == "mean" else prompt.amax(0))
        # Row by row, because a matrix product may round equal tokens differently; in blocks that stay in the cache.
        blocks = tokens.split(64 if on_cpu(tokens) else len(tokens))
        return torch.cat([(block * pooled).sum(1) for block in blocks]) * scale


def _tokens_and_scale(visual: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `(images, n, d)` whose squares stay inside the range of float32, and their 1 / norm, 0 for zero rows."""
    if on_cpu(visual):  # looking at the norms costs nothing there
        visual = visual.float()
        norm = torch.linalg.vector_norm(visual, dim=-1)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return visual, norm.reciprocal()
    # Dividing by a power of two is exact. That of the largest entry is its bits without sign and mantissa.
    largest = visual.abs().amax(-1, keepdim=True).float()
    power = (largest.view(torch.int32) & 0x7F800000).view(torch.float32)
    tokens = torch.nan_to_num(visual.float() / power.clamp_min(torch.finfo(torch.float32).tiny), nan=0.0)
    tokens = tokens.to(visual.dtype)
    norm = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32)
    return tokens, norm.reciprocal().where(norm > 0, 0.0)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Products `(images, n, m)` of the rows of `(images, n, d)` and `(images, m, d)`, summed up in float32."""
    if a.is_cuda and a.dtype != torch.float32 and "dtype" in torch.ops.aten.bmm.overloads():
        return torch.bmm(a, b.mT, out_dtype=torch.float32)
    return a.float() @ b.float().mT


def _seed(cosines: Cosines, prompts: list[Tensor], cores: list[int], pooling: str) -> Tensor:
    """Where the selection starts, `(images, longest seed)`: the core (eq. 6, 7), or else the most isolated token."""
    valid = cosines.valid
    order = torch.zeros(len(cores), max(1, *cores), dtype=torch.long, device=valid.device)
    for i, (prompt, core) in enumerate(zip(prompts, cores)):
        if core:
            scores = cosines.to_prompt(i, prompt, pooling).masked_fill(~valid[i], -torch.inf)
            order[i, :core] = scores.sort(descending=True, stable=True).indices[:core]
        else:
            if cosines.gram is None and len(valid) == 1 and valid.shape[1] <= _SMALL:
                cosines.gram = _products(cosines.tokens, cosines.tokens)
            order[i, 0] = _first_minimum(_nearest_neighbour(cosines, i))
    return order


def _first_minimum(values: Tensor) -> Tensor:
    """Index of the smallest of `(..., n)`; of those that are equal but for rounding, the lowest index."""
    return (values <= values.amin(-1, keepdim=True) + _ROUNDING).byte().argmax(-1)


def _nearest_neighbour(cosines: Cosines, image: int) -> Tensor:
    """Largest cosine of each token to any other, `(n,)`; blocks of rows keep the memory linear in n."""
    n = cosines.valid.shape[1]
    nearest = torch.full((n,), -torch.inf, device=cosines.valid.device)
    size = max(1, min(_BLOCK // n, max(128, n // 8)))
    for start in range(0, n, size):
        # Each pair once: a block holds its rows' cosines to themselves and to all later tokens.
        block = cosines.among(image, slice(start, min(n, start + size)), slice(start, n))
        rows, later = nearest[start : start + size], nearest[start:]
        rows.copy_(torch.maximum(rows, block.amax(1)))
        later.copy_(torch.maximum(later, block.amax(0)))
    return nearest.masked_fill(~cosines.valid[image], torch.inf)


def _add_diverse(cosines: Cosines, order: Tensor, seeds: list[int], steps: int) -> Tensor:
    """Greedy max-min diversity (eq. 8, 9): each step adds the token whose closest selected token is farthest.

    Args:
        order: `(images, s)` the tokens selected already, the first `seeds[i]` of each row.
        steps: tokens to add.

    Returns:
        The tokens added, `(images, steps)`. A row that has run out of tokens is filled up with any index.
    """
    if not steps:
        return order[:, :0]
    if min(seeds) < order.shape[1]:
        seeded = torch.arange(order.shape[1]) < torch.tensor(seeds)[:, None]
        order = order.where(seeded.to(order.device, non_blocking=True), order[:, :1])
    closest = cosines.to_tokens(order).amax(1).masked_fill(~cosines.valid, torch.inf).scatter(1, order, torch.inf)
    if on_cpu(closest):
        return torch.stack([_look_ahead(cosines, closest[0], steps)])
    added = None
    if cosines.gram is not None:
        added = greedy(cosines.gram, cosines.scale, closest, steps, _ROUNDING)
    return _step_by_step(cosines, closest, steps) if added is None else added


def _step_by_step(cosines: Cosines, closest: Tensor, steps: int) -> Tensor:
    """The loop of `_add_diverse` in plain torch, for any device, which is never waited for."""
    added = torch.empty(len(closest), steps, dtype=torch.long, device=closest.device)
    for step in range(steps):
        pick = _first_minimum(closest)[:, None]
        added[:, step] = pick[:, 0]
        closest = torch.maximum(closest, cosines.to_tokens(pick)[:, 0]).scatter(1, pick, torch.inf)
    return added


def _look_ahead(cosines: Cosines, closest: Tensor, steps: int) -> Tensor:
    """The loop of `_add_diverse` for one image on a CPU, where reading all features at each step is what takes time.

    A step needs the cosines of one token to all. The tokens that are best now are mostly those of the next steps too,
    so one pass over the features computes the cosines of several; which ones never changes a choice. The steps
    themselves are array operations of numpy, which on rows this short start faster than torch's.

    Args:
        closest: `(n,)` cosine to the closest selected token, infinite on those selected; it is overwritten.
        steps: tokens to add.

    Returns:
        The tokens added, `(steps,)`.
    """
    added: list[int] = []
    columns: dict[int, Any] = {}
    nearest = closest.numpy()
    for _ in range(steps):
        pick = int((nearest <= nearest.min() + _ROUNDING).argmax())
        if pick not in columns:
            best = closest.topk(min(_AHEAD, len(closest)), largest=False).indices.tolist()
            ahead = [pick, *(token for token in best if token != pick and token not in columns)][:_AHEAD]
            columns.update(zip(ahead, cosines.to_tokens(torch.tensor([ahead]))[0].numpy()))
            for token in list(columns)[: max(0, len(columns) - _COLUMNS)]:
                del columns[token]
        nearest.clip(min=columns.pop(pick), out=nearest)  # the elementwise maximum
        nearest[pick] = torch.inf
        added.append(pick)
    return torch.tensor(added, dtype=torch.long)
