"""How many visual tokens went in and how many were kept, counted where the model prunes, per sample."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor

from ..pruners.random_subset import naming
from ..remote_code.zspa_calling import merges
from ..remote_code.zspa_selection import VisualTokenPruner


@dataclass(frozen=True)
class SampleRecord:
    """What happened to one sample: visual tokens of its prompt, those kept, and why it failed, if it did."""

    task: str
    split: str
    doc_id: int | str
    visual_tokens: int
    kept_tokens: int
    failed: str | None = None


class CountingPruner:
    """Lets a pruner choose, tells it whose images it is given, and remembers how many tokens each row kept.

    Args:
        pruner: what chooses; None where nothing is pruned.
        rows: a name for each row of the batch.
        clock: a `StageClock`, or what times a stage as it does.
    """

    def __init__(
        self,
        pruner: VisualTokenPruner | None,
        rows: Sequence[str] = (),
        clock: Callable[[str], AbstractContextManager] = nullcontext,
    ):
        self.pruner, self.rows, self.clock = pruner, list(rows), clock
        self._kept = [0] * len(self.rows)
        self._images = [0] * len(self.rows)  # seen so far
        self._seen = [0] * len(self.rows)  # visual tokens of the prompts
        self._left: list[int] = []  # of images that were resized
        self._waiting: list[list[int]] = []

    @property
    def merges(self) -> bool:
        return self.pruner is not None and merges(self.pruner)

    @property
    def sees_images(self) -> bool:
        """Whether any row has visual tokens."""
        return any(self._seen)

    def expect(self, input_ids: Tensor, config: Any, resized: Tensor | None = None) -> None:
        """Notes the visual tokens of each row of `input_ids` `(batch, S)`: images and videos apart, because a model
        asks for all images of a batch and then for all its videos."""
        tokens = [getattr(config, name, None) for name in ("image_token_id", "video_token_id")]
        counts = [(input_ids == token).sum(1).tolist() for token in tokens if token is not None]
        self._waiting = [count for count in counts if any(count)]
        self._seen = [sum(of_row) for of_row in zip(*counts)]
        if resized is not None:
            self._left = sum((resized == token).sum(1) for token in tokens if token is not None).tolist()

    def budget(self, n: int) -> int:
        assert self.pruner is not None, "only a batch that is pruned gets this pruner"
        return self.pruner.budget(n)

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        assert self.pruner is not None, "only a batch that is pruned gets this pruner"
        owners = self._owners([len(visual) for visual in visual_tokens])
        names = []
        for row in owners:
            self._images[row] += 1
            names.append(f"image {self._images[row]} of {self.rows[row]}")
        with self.clock("selection"):
            kept = naming(self.pruner, names)(visual_tokens, prompt_tokens)
        for row, indices in zip(owners, kept):
            self._kept[row] += len(indices[0] if self.merges else indices)
        return kept

    def _owners(self, sizes: list[int]) -> list[int]:
        """The row of each image: those of a row fill its placeholders, one after the other.

        Raises:
            RuntimeError: they do not.
        """
        placeholders = self._waiting.pop(0) if self._waiting else []
        ends = list(accumulate(placeholders))
        owners = [bisect_left(ends, end) for end in accumulate(sizes)]
        filled = [sum(size for owner, size in zip(owners, sizes) if owner == row) for row in range(len(placeholders))]
        if filled != placeholders or sum(sizes) != sum(placeholders):
            raise RuntimeError(f"images of {sizes} tokens do not fill the {placeholders} placeholders of the batch")
        return owners

    def records(self, samples: Sequence[Any]) -> list[SampleRecord]:
        """One record per row.

        Raises:
            RuntimeError: a pruner was set, but the model never asked it.
        """
        if self.pruner and self._waiting:
            row = next(row for row, count in enumerate(self._waiting[0]) if count)
            raise RuntimeError(f"{self.rows[row]}: the model did not prune its {self._seen[row]} visual tokens")
        kept = self._kept if self.pruner else self._left or self._seen
        return [
            SampleRecord(sample.task, sample.split, sample.doc_id, seen, left)
            for sample, seen, left in zip(samples, self._seen, kept, strict=True)
        ]


def token_summary(records: Sequence[SampleRecord]) -> str:
    """One line: samples, visual tokens in, tokens kept, failures."""
    seen, kept = sum(r.visual_tokens for r in records), sum(r.kept_tokens for r in records)
    share = f" ({100 * kept / seen:.1f} %)" if seen else ""
    failed = sum(r.failed is not None for r in records)
    line = f"{len(records)} samples, {seen} visual tokens in, {kept} kept{share}"
    return f"{line}, {failed} FAILED" if failed else line
