"""The selections on a CPU, where computing similarities is what takes time: what `zspa_greedy` states, with fewer.

Which similarities are computed, and which tokens are guessed to be next, changes the time and never a choice.
"""

import math
from copy import copy
from typing import Any

import torch
from torch import Tensor

from .zspa_greedy import NO_RANK, Greedy, weighed
from .zspa_similarity import BLOCK, COLUMNS, ROUNDING, first_minimum, products, unit_vectors

FEW = 192  # tokens of an image whose pairs are all compared at once
BOUNDING = 32  # tokens whose nearest neighbour is found at once, to rule out others as the most isolated
AHEAD = 32  # columns of similarities computed in one pass over the features
CONTENDERS = 512  # among so many tokens, or twice the steps left, the next one is looked for; others are left behind
PER_STEP = 8  # and once half of the steps are done, among so many for each one left
TOO_FEW = 8  # added before the others must catch up: then more tokens are to contend
CANDIDATES = 64  # tokens that the columns are chosen from
SKETCH = 128  # entries of a token that a guess at its similarities is made from
DOUBT = 0.25  # how much of a guessed similarity between unlike tokens may be chance: about three standard deviations
WIDTH = 16  # a matrix product with a multiple of so many columns is up to twice as fast


class GreedyOnCpu(Greedy):
    """`Greedy` with cosines computed as they are needed, ahead of their use where they are guessed to be.

    Attributes:
        pairs: `(n, n)` float32, all cosines, where there are few tokens or once they had to be computed; else None.
        sketch: `(n, s)` float32, the first entries of the tokens as unit vectors, once guesses are made; else None.
    """

    pairs: Tensor | None = None
    sketch: Tensor | None = None

    def only(self, rows: Tensor) -> "GreedyOnCpu":
        """Those between some of the tokens, `(s,)`."""
        chosen = copy(self)
        chosen.tokens, chosen.scale = self.tokens.index_select(0, rows), self.scale.index_select(0, rows)
        chosen.pairs = None
        chosen.sketch = None if self.sketch is None else self.sketch.index_select(0, rows)
        return chosen

    def guess(self, tokens: Tensor) -> Tensor:
        """Guesses at the cosines `(s, s)` among tokens `(s,)`, from their first entries."""
        if self.sketch is None:
            self.sketch = unit_vectors(self.tokens[:, :SKETCH])
        some = self.sketch.index_select(0, tokens)
        return some @ some.T

    def compare_few(self) -> None:
        """Fills `pairs` where there are few tokens."""
        if self.pairs is None and len(self.tokens) <= FEW:
            self.pairs = (self.tokens @ self.tokens.T).mul_(self.scale[:, None]).mul_(self.scale)

    def to_tokens(self, picks: Tensor) -> Tensor:
        """As `Cosines.to_tokens`. It is faster to have the long side of the product as its rows, and a token more than
        once than an odd number of columns."""
        if self.pairs is not None:
            return self.pairs[picks]
        wide = torch.cat([picks, picks[:1].expand(-len(picks) % WIDTH)])
        found = (self.tokens @ self.tokens.index_select(0, wide).T)[:, : len(picks)].T.contiguous()
        return found * self.scale[picks, None] * self.scale

    def to_nearest(self) -> Tensor:
        """As `Cosines.to_nearest`; each pair is computed once, and `pairs` keeps them all where they are few enough."""
        n = len(self.tokens)
        nearest = self.scale.new_full((n,), -torch.inf)
        pairs = self.scale.new_empty(n, n) if n * n <= BLOCK else None
        size = max(1, min(BLOCK // n, max(128, n // 8)))
        for start in range(0, n, size):
            stop = min(n, start + size)
            block = products(self.tokens[start:stop], self.tokens[start:])  # to themselves and to all later tokens
            block.mul_(self.scale[start:stop, None]).mul_(self.scale[start:]).diagonal().fill_(-torch.inf)
            rows, later = nearest[start:stop], nearest[start:]
            rows.copy_(torch.maximum(rows, block.amax(1)))
            later.copy_(torch.maximum(later, block.amax(0)))
            if pairs is not None:
                pairs[start:stop, start:] = block
                pairs[start:, start:stop] = block.T
        self.pairs = pairs
        return nearest

    def most_isolated(self) -> Tensor:
        """As `Greedy.most_isolated`. A neighbour found is a bound: a token that has a closer one than some token's
        nearest cannot be the most isolated. The cosines of a few tokens to all, and then of those that seem the most
        isolated, leave few others to look at where some tokens stand out. Where they leave more than a quarter, every
        pair is computed."""
        self.compare_few()
        n = len(self.tokens)
        nearest, whole = self.scale.new_full((n,), -torch.inf), torch.zeros(n, dtype=torch.bool, device="cpu")
        left = torch.arange(0, n, -(-n // BOUNDING), device="cpu")
        turn = 0
        while len(left):
            if turn == 2 and 4 * len(left) > n:
                return first_minimum(self.to_nearest())
            most = BOUNDING if turn < 2 else max(1, BLOCK // n)
            rows = left[nearest[left].argsort()[:most]]
            block = self.to_tokens(rows).scatter_(1, rows[:, None], -torch.inf)
            nearest = torch.maximum(nearest, block.amax(0))
            nearest[rows] = torch.maximum(nearest[rows], block.amax(1))
            whole[rows] = True
            left = ((nearest <= nearest[whole].min() + ROUNDING) & ~whole).nonzero()[:, 0]
            turn += 1
        return first_minimum(nearest.where(whole, torch.inf))

    def by_diversity(self, first: Tensor, budget: int, quality: Tensor | None = None) -> Tensor:
        if len(first) == budget:
            return first
        self.compare_few()
        costs = weighed(self.to_closest(first), quality).scatter(0, first, torch.inf)
        added = look_ahead(self, Diversity(costs, quality), budget - len(first))
        return torch.cat([first, torch.tensor(added, dtype=torch.long, device="cpu")])

    def by_weighted_diversity(self, quality: Tensor, flat: Tensor, budget: int) -> Tensor:
        if flat:
            return self.by_diversity(self.most_isolated()[None], budget)
        return self.by_diversity(quality.argmax()[None], budget, quality)

    def by_determinant(self, quality: Tensor, budget: int) -> Tensor:
        self.compare_few()
        costs = -quality.square().where(self.scale > 0, 0.0)
        order = look_ahead(self, Volume(costs, quality, costs.new_empty(budget, len(costs))), budget)
        rest = quality.scatter(0, torch.tensor(order, dtype=torch.long, device="cpu"), -1.0)
        order += rest.sort(descending=True, stable=True).indices[: budget - len(order)].tolist()
        return torch.tensor(order, device="cpu")


class Diversity:
    """What a token costs by its cosine to the closest selected one, `weighed`.

    Attributes:
        costs: `(n,)`, infinite on those selected; they only ever grow.
        worthless: the cost from which on nothing is added.
    """

    worthless = math.inf

    def __init__(self, costs: Tensor, quality: Tensor | None = None):
        self.costs, self.quality = costs, quality

    def part(self, rows: Tensor) -> "Diversity":
        """That of some of the tokens, `(s,)`."""
        return Diversity(self.costs[rows], None if self.quality is None else self.quality[rows])

    def beside(self, cosines: Tensor, tokens: Tensor) -> Tensor:
        """What tokens `(s,)` cost at least, with these cosines `(r, s)` to a selected one."""
        return weighed(cosines, None if self.quality is None else self.quality[tokens])

    def columns(self, cosines: Tensor) -> Any:
        """What `add` is given, of the cosines `(..., n)` of tokens to all. On rows this short numpy is faster."""
        return weighed(cosines, self.quality).numpy()

    def add(self, pick: int, column: Any) -> None:
        """A token is selected."""
        costs = self.costs.numpy()
        costs.clip(min=column, out=costs)  # the elementwise maximum

    def catch_up(self, cosines: GreedyOnCpu, picks: Tensor, part: Any, few: list[int]) -> None:
        """All tokens learn of those selected, `picks` `(p,)`, which were the tokens `few` of a part."""
        torch.maximum(self.costs, weighed(cosines.to_closest(picks), self.quality), out=self.costs)


class Volume:
    """What a token costs by how much it makes the determinant larger, negated; attributes and methods as `Diversity`.

    Args:
        factor: `(budget, n)`, the rows of the kernel's Cholesky factor, to be written.
        step: how many of them are.
    """

    worthless = -NO_RANK

    def __init__(self, costs: Tensor, quality: Tensor, factor: Tensor, step: int = 0):
        self.costs, self.quality, self.factor, self.step = costs, quality, factor, step

    def part(self, rows: Tensor) -> "Volume":
        return Volume(self.costs[rows], self.quality[rows], self.factor.index_select(1, rows), self.step)

    def beside(self, cosines: Tensor, tokens: Tensor) -> Tensor:
        return self.quality[tokens].square() * (cosines.clamp_min(0).square() - 1)

    def columns(self, cosines: Tensor) -> Tensor:
        return cosines

    def add(self, pick: int, column: Tensor) -> None:
        known = self.factor[: self.step]
        row = column * self.quality * self.quality[pick] - known[:, pick] @ known
        self._extend((row / (-self.costs[pick]).sqrt())[None])

    def catch_up(self, cosines: GreedyOnCpu, picks: Tensor, part: "Volume", few: list[int]) -> None:
        known = self.factor[: self.step]
        kernel = self.quality[picks, None] * cosines.to_tokens(picks) * self.quality - known[:, picks].T @ known
        triangle = part.factor[self.step : part.step, few].T.tril()
        self._extend(torch.linalg.solve_triangular(triangle, kernel, upper=False))

    def _extend(self, rows: Tensor) -> None:
        self.factor[self.step : self.step + len(rows)] = rows
        self.step += len(rows)
        self.costs += rows.square().sum(0)


def look_ahead(cosines: GreedyOnCpu, state: Any, steps: int, limit: float = math.inf) -> list[int]:
    """The loop of `by_diversity` and `by_determinant`, which computes similarities ahead.

    A step needs the cosines of one token to all. One pass over the features computes those of several tokens that may
    be next. And costs only ever grow, so a token far from being the next one may be left behind: the loop calls itself
    for the others, and nothing about those left behind is computed as long as one of the others is below what they had.
    When none is, they catch up on all that were added.

    Args:
        state: a `Diversity` or a `Volume` of the tokens; it is brought up to date.
        steps: tokens to add.
        limit: what the best token that a caller left behind had; the loop stops where all tokens have reached it.

    Returns:
        The tokens added, up to `steps`; fewer where the limit is reached or no other is worth adding.
    """
    added: list[int] = []
    columns: dict[int, Any] = {}
    contending, per_step, costs = CONTENDERS, PER_STEP, state.costs.numpy()
    while len(added) < steps:
        best = costs.min()
        level = best + ROUNDING
        if best >= state.worthless or (added and level >= limit):
            break
        pick, left = int((costs <= level).argmax()), steps - len(added)
        if cosines.pairs is not None:
            columns[pick] = state.columns(cosines.pairs[pick])
        if pick not in columns:
            contending = max(contending, 2 * left)
            half_done = len(added) >= left
            contend = contenders(state.costs, min(contending, per_step * left) if half_done else contending)
            if contend:
                rows, behind = contend
                part = state.part(rows)
                few = look_ahead(cosines.only(rows), part, left, min(limit, behind))
                picks = rows[few]
                added += picks.tolist()
                if len(added) < steps:
                    state.catch_up(cosines, picks, part, few)
                costs[picks] = math.inf
                for token in picks.tolist():
                    columns.pop(token, None)
                if len(few) < TOO_FEW:
                    contending, per_step = 2 * contending, 2 * per_step
                continue
            ahead = likely_next(cosines, state, pick, columns, min(AHEAD, 2 * left))
            for token in list(columns)[: max(0, len(columns) + len(ahead) - COLUMNS)]:
                del columns[token]
            columns.update(zip(ahead, state.columns(cosines.to_tokens(torch.tensor(ahead, device="cpu")))))
        state.add(pick, columns.pop(pick))
        costs[pick] = math.inf
        added.append(pick)
    return added


def contenders(costs: Tensor, count: int) -> tuple[Tensor, float] | None:
    """The `count` tokens that are best now, with those equal to the last of them, and what the best other one has.

    None where fewer than half of the tokens would be left behind."""
    if 2 * count >= len(costs):
        return None
    contends = costs <= costs.kthvalue(count).values + 2 * ROUNDING  # once, and for sure: none behind may be equal
    rows = contends.nonzero()[:, 0]
    return None if 2 * len(rows) > len(costs) else (rows, float(costs.masked_fill(contends, torch.inf).min()))


def likely_next(cosines: GreedyOnCpu, state: Any, pick: int, columns: dict[int, Any], most: int) -> list[int]:
    """`pick`, and tokens without a column that are likely to be added soon, about `most` in all.

    Those that cost least now, but not two that are guessed to be much alike, because adding one makes the other a bad
    choice.
    """
    values, tokens = state.costs.topk(min(CANDIDATES, len(state.costs)), largest=False)
    guess = cosines.guess(tokens)
    at_least = state.beside(guess - DOUBT * (1 - guess**2), tokens)
    spared_by = (at_least <= values).numpy()  # row: by which, column: the one it leaves good
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
