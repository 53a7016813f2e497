"""The pruned prompt as tensors: what was selected, and where its columns come from.

A *column* is an index into the full, unpruned sequence that the user passes in and gets back. The `S` columns of a
prompt become `P` packed places: every row keeps its own tokens in their order, shorter rows are padded on the left.
"""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from .zspa_encoder import EncoderOutput


@dataclass
class PrunedVisuals:
    """What was selected for one prompt, before its rows are packed.

    Attributes:
        keep: `(batch, S)` bool, False on the placeholders of dropped visual tokens.
        outputs: modality → what the encoder returned, with the kept tokens only.
        rows: modality → the row of each image.
        indices: per image, then per video, the ascending indices of the kept tokens.
        width: the columns kept of the longest row.
        padded: whether some row keeps fewer columns than another.
        tail: how many columns at the end all rows keep.
        described: what describes the prompt, on the CPU: ids, mask, grids, token types.
        positions: those of the full prompt `(3, batch, S)`; None where they are counted or given.
        inputs: the visual inputs it was made from, for an assistant model that has to encode them itself.
    """

    keep: Tensor
    outputs: dict[str, EncoderOutput] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    indices: list[Tensor] = field(default_factory=list)
    width: int = 0
    padded: bool = False
    tail: int = 0
    described: dict[str, Any] = field(default_factory=dict)
    positions: Tensor | None = None
    inputs: dict[str, Any] = field(default_factory=dict)

    def repeated(self, copies: int) -> dict[str, EncoderOutput]:
        """`outputs` for a batch that has each row `copies` times in a row, as for beams."""
        if copies == 1:
            return dict(self.outputs)
        orders = {}
        for modality, rows in self.rows.items():
            images = [list(group) for _, group in groupby(range(len(rows)), key=lambda image: rows[image])]
            orders[modality] = [image for group in images for _ in range(copies) for image in group]
        return {modality: output.ordered(orders[modality]) for modality, output in self.outputs.items()}


@dataclass
class PackedRows:
    """Where the columns that stay come from.

    Attributes:
        index: `(batch, P)` int64, the column behind each packed place.
        mask: `(batch, P)` int64, 0 on padding.
        keep: `(batch, S)` bool, the columns that stay.
    """

    index: Tensor
    mask: Tensor
    keep: Tensor

    @classmethod
    def from_keep(cls, keep: Tensor, width: int) -> "PackedRows":
        """Packs the True columns of `(batch, S)` into `width` places, at least as many as the fullest row has."""
        width = min(keep.shape[1], width)
        dropped_first = keep.byte().argsort(dim=1, stable=True)
        index = dropped_first[:, keep.shape[1] - width :]
        return cls(index, keep.gather(1, index).long(), keep)

    def take(self, columns: Tensor) -> Tensor:
        """The packed places of `(..., batch, S)`, as `(..., batch, P)`."""
        return columns.gather(-1, self.index.expand(*columns.shape[:-1], -1))

    def take_labels(self, labels: Tensor) -> Tensor:
        """Labels `(batch, S)` as `(batch, P)`; nothing comes before a row's first token, so nothing predicts it."""
        first = self.mask.shape[1] - self.mask.sum(1, keepdim=True)
        labels = self.take(labels).masked_fill(self.mask == 0, -100)
        return torch.cat([labels, labels[:, :1]], 1).scatter(1, first, -100)[:, :-1]

    def places(self) -> Tensor:
        """`(batch, S)`: the packed place of each column, or of the nearest one kept before it; of the first one kept
        where there is none."""
        first = self.mask.shape[1] - self.mask.sum(1, keepdim=True)
        return (first + (self.keep.long().cumsum(1) - 1).clamp_min(0)).clamp_max(self.mask.shape[1] - 1)

    def spread(self, packed: Tensor) -> Tensor:
        """What `(batch, P, d)` says at every column, `(batch, S, d)`; a dropped one repeats its neighbour."""
        places = self.places().to(packed.device)  # of a model on several GPUs the last one's
        return packed.gather(1, places[..., None].expand(-1, -1, packed.shape[-1]))
