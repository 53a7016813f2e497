"""Inside a worker: features in, kept features out, with their places in the image beside them where those are needed.

Which tokens are kept is known only after the image has been encoded, but vLLM numbers a prompt before. So kept tokens
get the position of their image's first one, and how far each is from there travels in extra columns of its embedding.
vLLM hands these to `recompute_mrope_positions`, which fills in the positions and cuts the columns off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.logger import init_logger

from ..remote_code.zspa_selection import ZspaPruner
from .processing import Batch
from .vision_cache import DEFAULT_MEGABYTES, VisionCache

logger = init_logger("vllm.hf_zspa")

BASE = 128  # distances are written as two digits, because 16-bit floats are exact only up to 256
ROWS = 3  # of M-RoPE: time, height, width


@dataclass(frozen=True)
class Item:
    """An image or video in a prompt.

    Attributes:
        offset: the column of its first placeholder.
        kept: its placeholders in the prompt.
        after: how far the position of the text behind it is from that of its own first token.
    """

    offset: int
    kept: int
    after: int


class ZspaModelMixin:
    """Comes before a family's model class."""

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.zspa_vision = VisionCache(getattr(self.config, "zspa_vision_cache_mb", DEFAULT_MEGABYTES))
        logger.info(
            "hf_zspa prunes: keep ratio %s, core ratio %s, positions %s",
            self.config.zspa_keep_ratio, self.config.zspa_core_ratio, self.config.zspa_position_ids,
        )  # fmt: skip

    def select(
        self, count: int, batch: Batch | None, encode: Callable[[list[int]], Sequence[Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Per image of a batch the kept features `(l_i, d)` of `(n_i, d)` and their ascending indices `(l_i,)`.

        Args:
            count: images in the batch.
            batch: what travels with them; None in vLLM's profiling, which keeps as many as the checkpoint does.
            encode: from the images that have to be encoded, by their place in the batch, to their features.
        """
        config = self.config
        visual = self.zspa_vision.features(batch and batch.keys, count, encode)
        if batch is None:
            own = torch.tensor([config.zspa_keep_ratio, config.zspa_core_ratio], dtype=torch.float64)
            batch = Batch([torch.empty(0, dtype=torch.long)] * count, [own] * count, [])
        return [self._keep(*item) for item in zip(visual, batch.prompt_ids, batch.ratios)]

    def _keep(self, visual: Tensor, prompt_ids: Tensor, ratios: Tensor) -> tuple[Tensor, Tensor]:
        keep_ratio, core_ratio = ratios.tolist()
        if keep_ratio == 1:
            return visual, torch.arange(len(visual), device=visual.device)
        embed = self.get_language_model().embed_input_ids
        prompt = embed(prompt_ids.to(visual.device)) if len(prompt_ids) else visual[:0]
        (kept,) = ZspaPruner(keep_ratio, core_ratio, self.config.zspa_pooling)([visual], [prompt])
        return visual[kept], kept


def with_places(features: Tensor, places: Tensor) -> Tensor:
    """Features `(l, d)` with the places `(rows, l)` of their tokens behind them in digits, `(l, d + 2 · rows)`."""
    digits = torch.stack([places // BASE, places % BASE], 1).flatten(0, 1)
    return torch.cat([features, digits.T.to(features)], 1)


def without_places(embeddings: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Features `(l, width)` and places `(rows, l)` of what `with_places` made."""
    digits = embeddings[:, width:].long().T.unflatten(0, (-1, 2))
    return embeddings[:, :width], digits[:, 0] * BASE + digits[:, 1]


def prompt_positions(length: int, items: Sequence[Item]) -> tuple[Tensor, int]:
    """Positions `(ROWS, length)` of a prompt, those of text as in the unpruned one, those of an image all that of its
    first token; and by how much the position of a later token exceeds its column."""
    parts: list[np.ndarray] = []
    column = position = 0
    for item in items:
        text = item.offset - column
        parts.append(np.broadcast_to(np.arange(text) + position, (ROWS, text)))
        position += text
        parts.append(np.full((ROWS, item.kept), position))
        position += item.after
        column = item.offset + item.kept
    text = length - column
    parts.append(np.broadcast_to(np.arange(text) + position, (ROWS, text)))
    positions = torch.from_numpy(np.ascontiguousarray(np.concatenate(parts, 1), dtype=np.int64))
    return positions, position + text - length


def columns_of(
    embeddings: Sequence[Tensor], input_ids: Any, placeholders: Sequence[int], computed: int
) -> list[Tensor]:
    """The columns `(l,)` of the prompt that each of the embeddings fills: placeholders from column `computed` on, in
    their order. An image that an earlier step has computed a part of is given from there on."""
    ids = torch.as_tensor(input_ids)
    spots = torch.isin(ids, torch.tensor(placeholders, device=ids.device)).nonzero()[:, 0]
    spots = spots[spots >= computed]
    return list(spots[: sum(map(len, embeddings))].split([len(e) for e in embeddings]))
