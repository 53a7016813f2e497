"""The diversity step: greedy max-min selection (eq. 8, 9), on a GPU without waiting for it, on a CPU looking ahead."""

from typing import Any

import torch
from torch import Tensor

from .zspa_similarity import ROUNDING, WIDTH, Cosines

_BLOCK = 1 << 24  # similarities held at once while looking for the most isolated token (64 MiB in float32)
_FEW = 192  # tokens of an image whose pairs are all computed at once on a CPU
_BOUNDING = 32  # tokens whose nearest neighbour is found at once, to rule out others as the most isolated
_AHEAD = 32  # columns of similarities computed in one pass over the features
_CONTENDERS = 512  # among so many tokens, or twice the steps left, the next one is looked for; others are left behind
_PER_STEP = 8  # and once half of the steps are done, among so many for each one left
_TOO_FEW = 8  # added before the others must catch up: then more tokens are to contend
_COLUMNS = 256  # columns of similarities held at once
_CANDIDATES = 64  # tokens that the columns are chosen from
_DOUBT = 0.25  # how much of a guessed similarity between unlike tokens may be chance: about three standard deviations


def most_isolated(cosines: Cosines, image: int) -> Tensor:
    """The token `()` whose nearest neighbour is farthest, with which a selection by diversity alone begins."""
    _compare_few(cosines)
    if cosines.on_cpu:
        return first_minimum(_nearest_neighbour_on_cpu(cosines, image))
    return first_minimum(_nearest_neighbour(cosines, image))


def _compare_few(cosines: Cosines) -> None:
    if cosines.on_cpu and cosines.pairs is None and cosines.valid.shape[1] <= _FEW:
        cosines.compare_all()


def first_minimum(values: Tensor) -> Tensor:
    """Index of the smallest of `(..., n)`; of those that are equal but for rounding, the lowest index."""
    return (values <= values.amin(-1, keepdim=True) + ROUNDING).byte().argmax(-1)


def _nearest_neighbour(cosines: Cosines, image: int) -> Tensor:
    """Largest cosine of each token to any other, `(n,)`; blocks of rows keep the memory linear in n.

    Each pair is computed once. On a CPU, `cosines` keeps them all where they are few enough.
    """
    n = cosines.valid.shape[1]
    nearest = torch.full((n,), -torch.inf, device=cosines.valid.device)
    pairs = torch.empty(n, n) if cosines.on_cpu and n * n <= _BLOCK else None
    size = max(1, min(_BLOCK // n, max(128, n // 8)))
    for start in range(0, n, size):
        stop = min(n, start + size)
        block = cosines.among(image, slice(start, stop), slice(start, n))  # to themselves and to all later tokens
        rows, later = nearest[start:stop], nearest[start:]
        rows.copy_(torch.maximum(rows, block.amax(1)))
        later.copy_(torch.maximum(later, block.amax(0)))
        if pairs is not None:
            pairs[start:stop, start:] = block
            pairs[start:, start:stop] = block.T
    cosines.pairs = pairs
    return nearest.masked_fill(~cosines.valid[image], torch.inf)


def _nearest_neighbour_on_cpu(cosines: Cosines, image: int) -> Tensor:
    """As `_nearest_neighbour`, but infinite on tokens that are seen to be less isolated than another.

    A neighbour found is a bound: a token that has a closer one than some token's nearest cannot be the most isolated.
    The cosines of a few tokens to all, and then of those that seem the most isolated, leave few others to look at
    where some tokens stand out. Where they leave more than a quarter, every pair is computed.
    """
    n = cosines.valid.shape[1]
    nearest, whole = torch.full((n,), -torch.inf), torch.zeros(n, dtype=torch.bool)
    left = torch.arange(0, n, -(-n // _BOUNDING))
    turn = 0
    while len(left):
        if turn == 2 and 4 * len(left) > n:
            return _nearest_neighbour(cosines, image)
        most = _BOUNDING if turn < 2 else max(1, _BLOCK // n)
        rows = left[nearest[left].argsort()[:most]]
        block = cosines.to_tokens(rows[None])[0].scatter_(1, rows[:, None], -torch.inf)
        nearest = torch.maximum(nearest, block.amax(0))
        nearest[rows] = torch.maximum(nearest[rows], block.amax(1))
        whole[rows] = True
        left = ((nearest <= nearest[whole].min() + ROUNDING) & ~whole).nonzero()[:, 0]
        turn += 1
    return nearest.where(whole, torch.inf)


def add_diverse(cosines: Cosines, order: Tensor, seeds: list[int], steps: int) -> Tensor:
    """Greedy max-min diversity (eq. 8, 9): each step adds the token whose closest selected token is farthest.

    Args:
        order: `(images, s)` the tokens selected already, the first `seeds[i]` of each row.
        steps: tokens to add.

    Returns:
        The tokens added, `(images, steps)`. On a GPU a row that has run out of tokens is filled up with any index.
    """
    if not steps:
        return order[:, :0]
    _compare_few(cosines)
    if min(seeds) < order.shape[1]:
        seeded = torch.arange(order.shape[1]) < torch.tensor(seeds)[:, None]
        order = order.where(seeded.to(order.device, non_blocking=True), order[:, :1])
    closest = _closest(cosines, order).masked_fill(~cosines.valid, torch.inf).scatter(1, order, torch.inf)
    if cosines.on_cpu:
        return torch.tensor([_look_ahead(cosines, closest[0], steps)], dtype=torch.long)
    return _step_by_step(cosines, closest, steps)


def _closest(cosines: Cosines, selected: Tensor) -> Tensor:
    """Cosines `(images, n)` of all tokens to the closest of those selected, `(images, s)`."""
    first, *others = selected.split(_COLUMNS, 1)
    closest = cosines.to_tokens(first).amax(1)
    for some in others:
        closest = torch.maximum(closest, cosines.to_tokens(some).amax(1))
    return closest


def _step_by_step(cosines: Cosines, closest: Tensor, steps: int) -> Tensor:
    """The loop of `add_diverse` in plain torch, for any device, which is never waited for."""
    added = torch.empty(len(closest), steps, dtype=torch.long, device=closest.device)
    for step in range(steps):
        pick = first_minimum(closest)[:, None]
        added[:, step] = pick[:, 0]
        closest = torch.maximum(closest, cosines.to_tokens(pick)[:, 0]).scatter(1, pick, torch.inf)
    return added


def _look_ahead(cosines: Cosines, closest: Tensor, steps: int, limit: float = torch.inf) -> list[int]:
    """The loop of `add_diverse` for one image on a CPU, where computing similarities is what takes time.

    A step needs the cosines of one token to all. One pass over the features computes those of several tokens that may
    be next; which ones never changes a choice. And cosines to selected tokens only ever grow, so a token far from being
    the next one may be left behind: it calls itself for the others, and nothing about those left behind is computed as
    long as one of the others is below what they had. When none is, they catch up on all that were added. The steps
    themselves are array operations of numpy, which on rows this short start faster than torch's.

    Args:
        closest: `(n,)` cosine to the closest selected token, infinite on those selected; it is overwritten.
        steps: tokens to add.
        limit: what the best token that a caller left behind had; the loop stops where all tokens have reached it.

    Returns:
        The tokens added, one to `steps`.
    """
    added: list[int] = []
    columns: dict[int, Any] = {}
    nearest, contending, per_step = closest.numpy(), _CONTENDERS, _PER_STEP
    while len(added) < steps:
        level = nearest.min() + ROUNDING
        if added and level >= limit:
            break
        pick, left = int((nearest <= level).argmax()), steps - len(added)
        if cosines.pairs is not None:
            columns[pick] = cosines.pairs[pick].numpy()
        if pick not in columns:
            contending = max(contending, 2 * left)
            half_done = len(added) >= left
            contenders = _contenders(closest, min(contending, per_step * left) if half_done else contending)
            if contenders:
                rows, behind = contenders
                picks = rows[_look_ahead(cosines.only(rows), closest[rows], left, min(limit, behind))]
                added += picks.tolist()
                if len(added) < steps:
                    torch.maximum(closest, _closest(cosines, picks[None])[0], out=closest)
                closest[picks] = torch.inf
                for token in picks.tolist():
                    columns.pop(token, None)
                if len(picks) < _TOO_FEW:
                    contending, per_step = 2 * contending, 2 * per_step
                continue
            ahead = _likely_next(cosines, closest, pick, columns, min(_AHEAD, 2 * left))
            for token in list(columns)[: max(0, len(columns) + len(ahead) - _COLUMNS)]:
                del columns[token]
            columns.update(zip(ahead, cosines.to_tokens(torch.tensor([ahead]))[0].numpy()))
        nearest.clip(min=columns.pop(pick), out=nearest)  # the elementwise maximum
        nearest[pick] = torch.inf
        added.append(pick)
    return added


def _contenders(closest: Tensor, count: int) -> tuple[Tensor, float] | None:
    """The `count` tokens that are best now, with those equal to the last of them, and what the best other one has.

    None where fewer than half of the tokens would be left behind."""
    if 2 * count >= len(closest):
        return None
    contends = closest <= closest.kthvalue(count).values + 2 * ROUNDING  # once, and for sure: none behind may be equal
    rows = contends.nonzero()[:, 0]
    return None if 2 * len(rows) > len(closest) else (rows, float(closest.masked_fill(contends, torch.inf).min()))


def _likely_next(cosines: Cosines, closest: Tensor, pick: int, columns: dict[int, Any], most: int) -> list[int]:
    """`pick`, and tokens without a column that are likely to be added soon, about `most` in all.

    Those that are best now, as `_look_ahead` has it in `closest`, but not two that are guessed to be much alike,
    because adding one makes the other a bad choice.
    """
    values, tokens = closest.topk(min(_CANDIDATES, len(closest)), largest=False)
    guess = cosines.guess(tokens)
    spared_by = (guess - _DOUBT * (1 - guess**2) <= values).numpy()  # row: by which, column: the one it leaves good
    ahead, names = [pick], tokens.tolist()
    others = (values < torch.inf).numpy()
    for place, token in enumerate(names):
        if token == pick or token in columns:
            others[place] = False
    free = others.copy()
    place = names.index(pick) if pick in names else 0  # it is missing only among many that are equal to it
    while len(ahead) < most:
        free &= spared_by[place]
        place = int(free.argmax())
        if not free[place]:
            break
        ahead.append(names[place])
        free[place] = others[place] = False
    alike = others.nonzero()[0][: -len(ahead) % WIDTH].tolist()  # so many more columns cost nothing
    return ahead + [names[place] for place in alike]
