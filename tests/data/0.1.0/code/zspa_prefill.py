"""The pruned prompt as tensors: which columns stay, how they are packed, and what later tokens must know of it.

A *column* is an index into the full, unpruned sequence that the user passes in and gets back. The `S` columns of a
prompt become `P` packed places: every row keeps its own tokens in their order, shorter rows are padded on the left.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class PrunedVisuals:
    """What was selected for one prompt, before its rows are packed.

    Attributes:
        keep: `(batch, S)` bool, False on the placeholders of dropped visual tokens.
        features: placeholder token id → kept visual tokens `(kept, d)`, in the order of their placeholders.
        indices: per image, then per video, the ascending indices of the kept tokens.
        width: the columns kept of the longest row, if they are known without looking at `keep`, which may be on a GPU.
        padded: whether some row keeps fewer columns than another, or may.
        positions: those of the full prompt `(rope_rows, batch, S)`, if it has other than those counted along a row.
        inputs: the visual inputs it was made from, for an assistant model that has to encode them itself.
        assisted: whether candidate tokens will be rolled back out of the cache.
    """

    keep: Tensor
    features: dict[int, Tensor]
    indices: list[Tensor]
    width: int | None = None
    padded: bool = True
    positions: Tensor | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    assisted: bool = False


@dataclass
class PackedRows:
    """Where the columns that stay come from.

    Attributes:
        index: `(batch, P)` int64, the column behind each packed place.
        mask: `(batch, P)` int64, 0 on padding.
    """

    index: Tensor
    mask: Tensor

    @classmethod
    def from_keep(cls, keep: Tensor, width: int | None = None, padding: int = 0) -> "PackedRows":
        """Packs the True columns of `(batch, S)`.

        Args:
            width: how many the fullest row has, if that is known; None counts them, which waits for a GPU.
            padding: more places to add, if enough columns are dropped.
        """
        width = min(keep.shape[1], (int(keep.sum(1).max()) if width is None else width) + padding)
        dropped_first = keep.byte().argsort(dim=1, stable=True)
        index = dropped_first[:, keep.shape[1] - width :]
        return cls(index, keep.gather(1, index).long())

    def take(self, columns: Tensor) -> Tensor:
        """The packed places of `(..., batch, S)`, as `(..., batch, P)`."""
        return columns.gather(-1, self.index.expand(*columns.shape[:-1], -1))

    def take_labels(self, labels: Tensor) -> Tensor:
        """Labels `(batch, S)` as `(batch, P)`; nothing comes before a row's first token, so nothing predicts it."""
        first = self.mask.shape[1] - self.mask.sum(1, keepdim=True)
        return self.take(labels).masked_fill(self.mask == 0, -100).scatter(1, first, -100)

    def places(self, keep: Tensor) -> Tensor:
        """`(batch, S)`: the packed place of each column, or of the nearest one kept before it."""
        first = self.mask.shape[1] - self.mask.sum(1, keepdim=True)
        return first + (keep.long().cumsum(1) - 1).clamp_min(0)


@dataclass
class PrunedPrompt:
    """What a cache remembers of the pruned prompt in it.

    Attributes:
        columns: `S`, the columns the prompt stands for.
        mask: `(batch, P)` int64, 0 on padding.
        next_position: `(batch, 1)` int64, the position of the first token after the prompt.
        padded: False where the mask is known to have no 0.
    """

    columns: int
    mask: Tensor
    next_position: Tensor
    padded: bool = True

    @property
    def dropped(self) -> int:
        """Columns by which the cache is shorter than the sequence it stands for."""
        return self.columns - self.mask.shape[1]

    def pack_mask(self, attention_mask: Tensor) -> Tensor:
        """A mask over columns `(batch, S + t)` as one over the cache `(batch, P + t)`."""
        mask = self._rows(self.mask, len(attention_mask)).to(attention_mask)
        return torch.cat([mask, attention_mask[:, self.columns :]], dim=1)

    def later_positions(self, attention_mask: Tensor, count: int) -> Tensor:
        """Positions `(batch, count)` of the last `count` columns of `(batch, S + t)`, all of them after the prompt."""
        later = attention_mask[:, self.columns :].long().cumsum(1) - 1
        return self._rows(self.next_position, len(later)) + later[:, later.shape[1] - count :].clamp_min(0)

    def counted_positions(self, batch: int, columns: int, count: int) -> Tensor:
        """`later_positions` of a mask `(batch, columns)` of nothing but 1."""
        later = torch.arange(columns - count, columns, device=self.next_position.device) - self.columns
        return self._rows(self.next_position, batch) + later

    @staticmethod
    def _rows(values: Tensor, batch: int) -> Tensor:
        """`(batch, ...)`, with every row repeated as `Cache.batch_repeat_interleave` repeats those of the cache."""
        if batch % len(values):
            raise ValueError(f"the pruned prompt in the cache has {len(values)} rows, but the call has {batch}")
        return values if batch == len(values) else values.repeat_interleave(batch // len(values), 0)


_ATTRIBUTE = "_zspa_pruned_prompt"


def remember(cache, prompt: PrunedPrompt) -> None:
    """Ties a pruned prompt to the cache it goes into, if there is one."""
    if cache is not None:
        setattr(cache, _ATTRIBUTE, prompt)


def forget_if_empty(cache) -> None:
    """Drops what a reused cache still says of the prompt it held before."""
    if getattr(cache, _ATTRIBUTE, None) is not None and cached_length(cache) == 0:
        setattr(cache, _ATTRIBUTE, None)


def cached_length(cache) -> int:
    """Tokens in `cache`, which may be None."""
    return 0 if cache is None else int(cache.get_seq_length())


def pruned_prompt_of(cache) -> PrunedPrompt | None:
    """The pruned prompt inside `cache`, or None.

    Raises:
        ValueError: the cache no longer holds all of its pruned prompt, so that columns cannot be told apart.
    """
    prompt = getattr(cache, _ATTRIBUTE, None)
    if prompt is None or cached_length(cache) == 0:
        return None
    if cached_length(cache) < prompt.mask.shape[1]:
        raise ValueError(
            f"the cache holds {cached_length(cache)} tokens, fewer than the {prompt.mask.shape[1]} of its pruned "
            "prompt: start again without it"
        )
    return prompt
