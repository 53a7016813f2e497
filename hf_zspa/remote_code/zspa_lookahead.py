"""The selection on a CPU, where computing similarities is what takes time: what `zspa_selection` states, with fewer.

Which similarities are computed, and which tokens are guessed to be next, changes the time and never a choice.
"""

from copy import copy
from typing import Any

import torch
from torch import Tensor

from .zspa_similarity import BLOCK, COLUMNS, ROUNDING, Cosines, first_minimum, products, unit_vectors

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


def select_on_cpu(visual: Tensor, prompt: Tensor, budget: int, core: int, pooling: str) -> Tensor:
    """What `zspa_selection.select_in_order` returns for the same arguments."""
    cosines = CosinesAsNeeded(visual)
    if core:
        selected = cosines.to_prompt(prompt, pooling).sort(descending=True, stable=True).indices[:core]
    else:
        selected = most_isolated(cosines)[None]
    return torch.cat([selected, add_diverse(cosines, selected, budget - len(selected))])


class CosinesAsNeeded(Cosines):
    """Cosines between the tokens of one image on a CPU, and guesses at them.

    Attributes:
        pairs: `(n, n)` float32, all cosines, where there are few tokens or once they had to be computed; else None.
        sketch: `(n, s)` float32, the first entries of the tokens as unit vectors, once guesses are made; else None.
    """

    pairs: Tensor | None = None
    sketch: Tensor | None = None

    def only(self, rows: Tensor) -> "CosinesAsNeeded":
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


def most_isolated(cosines: CosinesAsNeeded) -> Tensor:
    """The token `()` whose nearest neighbour is farthest, with which a selection by diversity alone begins.

    A neighbour found is a bound: a token that has a closer one than some token's nearest cannot be the most isolated.
    The cosines of a few tokens to all, and then of those that seem the most isolated, leave few others to look at
    where some tokens stand out. Where they leave more than a quarter, every pair is computed.
    """
    cosines.compare_few()
    n = len(cosines.tokens)
    nearest, whole = cosines.scale.new_full((n,), -torch.inf), torch.zeros(n, dtype=torch.bool, device="cpu")
    left = torch.arange(0, n, -(-n // BOUNDING), device="cpu")
    turn = 0
    while len(left):
        if turn == 2 and 4 * len(left) > n:
            return first_minimum(cosines.to_nearest())
        most = BOUNDING if turn < 2 else max(1, BLOCK // n)
        rows = left[nearest[left].argsort()[:most]]
        block = cosines.to_tokens(rows).scatter_(1, rows[:, None], -torch.inf)
        nearest = torch.maximum(nearest, block.amax(0))
        nearest[rows] = torch.maximum(nearest[rows], block.amax(1))
        whole[rows] = True
        left = ((nearest <= nearest[whole].min() + ROUNDING) & ~whole).nonzero()[:, 0]
        turn += 1
    return first_minimum(nearest.where(whole, torch.inf))


def add_diverse(cosines: CosinesAsNeeded, selected: Tensor, steps: int) -> Tensor:
    """The tokens `(steps,)` that greedy max-min diversity (eq. 8, 9) adds to those selected, `(s,)`."""
    if not steps:
        return selected[:0]
    cosines.compare_few()
    closest = cosines.to_closest(selected).scatter(0, selected, torch.inf)
    return torch.tensor(look_ahead(cosines, closest, steps), dtype=torch.long, device="cpu")


def look_ahead(cosines: CosinesAsNeeded, closest: Tensor, steps: int, limit: float = torch.inf) -> list[int]:
    """The loop of `add_diverse`, which computes similarities ahead.

    A step needs the cosines of one token to all. One pass over the features computes those of several tokens that may
    be next. And cosines to selected tokens only ever grow, so a token far from being the next one may be left behind:
    the loop calls itself for the others, and nothing about those left behind is computed as long as one of the others
    is below what they had. When none is, they catch up on all that were added. The steps themselves are array
    operations of numpy, which on rows this short start faster than torch's.

    Args:
        closest: `(n,)` cosine to the closest selected token, infinite on those selected; it is overwritten.
        steps: tokens to add.
        limit: what the best token that a caller left behind had; the loop stops where all tokens have reached it.

    Returns:
        The tokens added, one to `steps`.
    """
    added: list[int] = []
    columns: dict[int, Any] = {}
    nearest, contending, per_step = closest.numpy(), CONTENDERS, PER_STEP
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
            contend = contenders(closest, min(contending, per_step * left) if half_done else contending)
            if contend:
                rows, behind = contend
                picks = rows[look_ahead(cosines.only(rows), closest[rows], left, min(limit, behind))]
                added += picks.tolist()
                if len(added) < steps:
                    torch.maximum(closest, cosines.to_closest(picks), out=closest)
                closest[picks] = torch.inf
                for token in picks.tolist():
                    columns.pop(token, None)
                if len(picks) < TOO_FEW:
                    contending, per_step = 2 * contending, 2 * per_step
                continue
            ahead = likely_next(cosines, closest, pick, columns, min(AHEAD, 2 * left))
            for token in list(columns)[: max(0, len(columns) + len(ahead) - COLUMNS)]:
                del columns[token]
            columns.update(zip(ahead, cosines.to_tokens(torch.tensor(ahead, device="cpu")).numpy()))
        nearest.clip(min=columns.pop(pick), out=nearest)  # the elementwise maximum
        nearest[pick] = torch.inf
        added.append(pick)
    return added


def contenders(closest: Tensor, count: int) -> tuple[Tensor, float] | None:
    """The `count` tokens that are best now, with those equal to the last of them, and what the best other one has.

    None where fewer than half of the tokens would be left behind."""
    if 2 * count >= len(closest):
        return None
    contends = closest <= closest.kthvalue(count).values + 2 * ROUNDING  # once, and for sure: none behind may be equal
    rows = contends.nonzero()[:, 0]
    return None if 2 * len(rows) > len(closest) else (rows, float(closest.masked_fill(contends, torch.inf).min()))


def likely_next(cosines: CosinesAsNeeded, closest: Tensor, pick: int, columns: dict[int, Any], most: int) -> list[int]:
    """`pick`, and tokens without a column that are likely to be added soon, about `most` in all.

    Those that are best now, as `look_ahead` has it in `closest`, but not two that are guessed to be much alike, because
    adding one makes the other a bad choice.
    """
    values, tokens = closest.topk(min(CANDIDATES, len(closest)), largest=False)
    guess = cosines.guess(tokens)
    spared_by = (guess - DOUBT * (1 - guess**2) <= values).numpy()  # row: by which, column: the one it leaves good
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
