"""What a cache remembers of the pruned prompt in it, whatever is done to its rows and its end."""

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .zspa_compat import cached_length


@dataclass
class PrunedPrompt:
    """The pruned prompt in a cache.

    Attributes:
        columns: `S`, the columns the prompt stands for.
        mask: `(batch, P)` int64, 0 on padding.
        next_position: `(batch, 1)` int64, the position of the first token after the prompt.
        rope_rows: how many rows of positions the text model was given, 3 for M-RoPE; None for one row `(batch, S)`.
        tail: how many columns at the end of the prompt all rows keep.
        padded: False where the mask is known to have no 0.
    """

    columns: int
    mask: Tensor
    next_position: Tensor
    rope_rows: int | None = None
    tail: int = 0
    padded: bool = True

    @property
    def dropped(self) -> int:
        """Columns by which the cache is shorter than the sequence it stands for."""
        return self.columns - self.mask.shape[1]

    def pack_mask(self, attention_mask: Tensor) -> Tensor:
        """A mask over columns `(batch, S + t)` as one over the cache `(batch, P + t)`."""
        self._check_rows(len(attention_mask))
        return torch.cat([self.mask.to(attention_mask), attention_mask[:, self.columns :]], dim=1)

    def later_positions(self, attention_mask: Tensor | None, batch: int, columns: int, count: int) -> Tensor:
        """Positions of the last `count` of `columns` columns, all of them after the prompt.

        Args:
            attention_mask: `(batch, columns)`, or None where nothing is masked.

        Returns:
            `(batch, count)`, or `(rope_rows, batch, count)`.
        """
        self._check_rows(batch)
        if attention_mask is None:
            later = torch.arange(columns - count, columns, device=self.next_position.device) - self.columns
        else:
            later = attention_mask[:, self.columns :].long().cumsum(1) - 1
            later = later[:, later.shape[1] - count :].clamp_min(0)
        positions = self.next_position + later
        return positions if self.rope_rows is None else positions.expand(self.rope_rows, -1, -1)

    def of_rows(self, rows: Tensor) -> "PrunedPrompt":
        """That of a cache whose rows are `rows` of this one's, int64 or bool."""
        rows = rows.to(self.mask.device)
        return replace(self, mask=self.mask[rows], next_position=self.next_position[rows])

    def without_last(self, count: int) -> "PrunedPrompt":
        """That of a cache which has lost the last `count` tokens of the prompt, all of them within its `tail`."""
        end = self.mask.shape[1] - count
        return replace(
            self, columns=self.columns - count, mask=self.mask[:, :end], next_position=self.next_position - count,
            tail=self.tail - count,
        )  # fmt: skip

    def _check_rows(self, batch: int) -> None:
        if batch != len(self.mask):
            raise ValueError(
                f"the pruned prompt in the cache has {len(self.mask)} rows, but the call has {batch}: repeat its rows "
                "with batch_repeat_interleave, or start without the cache"
            )


def remember(cache, prompt: PrunedPrompt) -> None:
    """Ties a pruned prompt to the cache it goes into, if there is one. What is done to the cache's rows and to its end
    is done to what it remembers."""
    if cache is not None:
        cache._zspa_pruned_prompt = prompt
        if not isinstance(cache, _Remembering):
            cache.__class__ = _remembering(type(cache))  # type: ignore[arg-type]


def memory_of(cache) -> PrunedPrompt | None:
    """The pruned prompt that `cache`, which may be None, was given, whatever has become of it since."""
    return getattr(cache, "_zspa_pruned_prompt", None)


def forget_if_empty(cache) -> None:
    """Drops what a reused cache still says of the prompt it held before."""
    if memory_of(cache) is not None and cached_length(cache) == 0:
        cache._zspa_pruned_prompt = None


def pruned_prompt_of(cache) -> PrunedPrompt | None:
    """The pruned prompt inside `cache`, or None.

    Raises:
        ValueError: the cache no longer holds all of its pruned prompt, so that columns cannot be told apart.
    """
    prompt = memory_of(cache)
    if prompt is None or cached_length(cache) == 0:
        return None
    if cached_length(cache) < prompt.mask.shape[1]:
        raise ValueError(
            f"the cache holds {cached_length(cache)} tokens, fewer than the {prompt.mask.shape[1]} of its pruned "
            "prompt: start again without it"
        )
    return prompt


class _Remembering:
    """A cache class of transformers that knows its pruned prompt. It comes before that class in the bases."""

    stock_class: type

    def crop(self, length: int) -> None:
        """A length is that of the full sequence, as stock callers count it; below 0 it is how many tokens to take off
        the end. The end may lie in the prompt, behind its last image.

        Raises:
            ValueError: a length ends before or in the prompt's last image.
        """
        prompt, cached = memory_of(self), cached_length(self)
        if prompt is None:
            return super().crop(length)
        left = cached + length if length <= 0 else min(cached, length - prompt.dropped)
        cut = prompt.mask.shape[1] - left
        if length > 0 and cut > prompt.tail:
            raise ValueError(
                f"crop({length}) ends before or in the last image of a pruned prompt of {prompt.columns} tokens: only "
                f"the last {prompt.tail} of them can be cut off; start again without the cache"
            )
        super().crop(length if length <= 0 else left)
        if 0 < cut <= prompt.tail:
            self._zspa_pruned_prompt = prompt.without_last(cut)

    def reorder_cache(self, rows: Tensor) -> None:
        super().reorder_cache(rows)
        self._keep_rows(rows)

    def batch_select_indices(self, rows: Tensor) -> None:
        super().batch_select_indices(rows)
        self._keep_rows(rows)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        prompt = memory_of(self)
        if prompt is not None:
            self._keep_rows(torch.arange(len(prompt.mask), device=prompt.mask.device).repeat_interleave(repeats))

    def _keep_rows(self, rows: Tensor) -> None:
        prompt = memory_of(self)
        if prompt is not None:
            self._zspa_pruned_prompt = prompt.of_rows(torch.as_tensor(rows))

    def __reduce_ex__(self, protocol):  # a class that is made here cannot be imported by its name
        made_by = super().__reduce_ex__(protocol)
        return _empty, (self.stock_class,), *made_by[2:]


@functools.cache
def _remembering(stock: type) -> type:
    return type(stock.__name__, (_Remembering, stock), {"stock_class": stock})


def _empty(stock: type):
    """A cache of a remembering class, without anything in it, for a copy to be put into."""
    return object.__new__(_remembering(stock))
