"""How many visual tokens went in and how many were kept, counted where the model prunes, per sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

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
    """Lets a pruner choose and remembers what it chose from, image by image.

    Attributes:
        placeholders: visual tokens of each row of the batch, `count_unpruned` fills it in.
    """

    def __init__(self, pruner: VisualTokenPruner | None):
        self.pruner = pruner
        self.placeholders: list[int] = []
        self.images: list[tuple[int, int]] = []  # visual tokens, tokens kept

    def budget(self, n: int) -> int:
        assert self.pruner is not None, "only a batch that is pruned gets this pruner"
        return self.pruner.budget(n)

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        assert self.pruner is not None, "only a batch that is pruned gets this pruner"
        kept = self.pruner(visual_tokens, prompt_tokens)
        self.images += [(len(visual), len(indices)) for visual, indices in zip(visual_tokens, kept)]
        return kept

    def records(self, samples: Sequence[Any]) -> list[SampleRecord]:
        """One record per row: the images of a row are those that fill its placeholders.

        Raises:
            RuntimeError: a pruner was set, but the model never asked it.
        """
        images, records = iter(self.images), []
        for sample, total in zip(samples, self.placeholders, strict=True):
            kept, seen = (0, 0) if self.pruner else (total, total)
            while seen < total:
                size, chosen = next(images, (0, 0))
                if not size:
                    raise RuntimeError(f"{sample.name}: the model did not prune all of its {total} visual tokens")
                seen, kept = seen + size, kept + chosen
            records.append(SampleRecord(sample.task, sample.split, sample.doc_id, total, kept))
        return records


def count_unpruned(counter: CountingPruner, input_ids: Tensor, config: Any) -> None:
    """Notes the visual tokens of each row of `input_ids` `(batch, S)`."""
    rows = 0 * input_ids
    for name in ("image_token_id", "video_token_id"):
        token = getattr(config, name, None)
        if token is not None:
            rows = rows + (input_ids == token)
    counts = rows.sum(1).tolist()
    counter.placeholders = counts


def token_summary(records: Sequence[SampleRecord]) -> str:
    """One line: samples, visual tokens in, tokens kept, failures."""
    seen, kept = sum(r.visual_tokens for r in records), sum(r.kept_tokens for r in records)
    share = f" ({100 * kept / seen:.1f} %)" if seen else ""
    failed = sum(r.failed is not None for r in records)
    line = f"{len(records)} samples, {seen} visual tokens in, {kept} kept{share}"
    return f"{line}, {failed} FAILED and counted as wrong" if failed else line
