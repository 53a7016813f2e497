"""Inside a worker: features in, kept features out, with their places in the image beside them where those are needed.

Which tokens are kept is known only after the image has been encoded, but vLLM numbers a prompt before. So kept tokens
get the position of their image's first one, and how far each is from there travels in extra columns of its embedding.
vLLM hands these to `recompute_mrope_positions`, which fills in the positions and cuts the columns off.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.logger import init_logger
from vllm.sequence import IntermediateTensors

from ..remote_code.zspa_config import fields_of, fields_read, pruner_from_config, shown
from .processing import Batch
from .vision_cache import VisionCache

logger = init_logger("vllm.hf_zspa")

BASE = 128  # distances are written as two digits, because 16-bit floats are exact only up to 256
ROWS = 3  # of M-RoPE: time, height, width
_POSITIONS = "zspa_positions"  # what goes from one stage of a pipeline to the next beside the hidden states


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
    """Comes before a family's model class.

    Attributes:
        zspa_positions: whether kept tokens keep positions of the full sequence, which are known only after encoding.
    """

    zspa_positions = True

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        lora = vllm_config.lora_config
        if lora is not None and lora.enable_tower_connector_lora:
            raise ValueError(
                "--enable-tower-connector-lora is not supported with a checkpoint that prunes: leave it out"
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = self.config
        self.zspa_vision = VisionCache(config.zspa_vision_cache_mb, vllm_config.device_config.device)
        # As many as a step without pruning encodes at once; the scheduler counts those that are kept.
        self.zspa_tokens_at_once = vllm_config.scheduler_config.max_num_batched_tokens
        read = fields_read(fields_of(config))
        logger.info_once(
            "hf_zspa prunes by %s: %s, positions %s%s",
            config.zspa_method, ", ".join(f"{shown(name)} {value}" for name, value in read.items()),
            config.zspa_position_ids, "" if config.zspa_keep_ratio < 1 else " (only requests that ask for it)",
            scope="global",
        )  # fmt: skip
        self._empty_tensors_of_vllm: Callable[..., Any] = self.make_empty_intermediate_tensors
        self.make_empty_intermediate_tensors: Callable[..., Any] = self._empty_intermediate_tensors

    def load_weights(self, weights: Any) -> Any:
        """Other weights make other features."""
        self.zspa_vision.clear()
        return super().load_weights(weights)

    def forward(
        self,
        input_ids: Any,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Sends positions along a pipeline: later stages never see images, so theirs lack the kept tokens' places."""
        if intermediate_tensors is not None and self.zspa_positions:
            positions = intermediate_tensors[_POSITIONS].T
        of_the_language_model = self.language_positions(positions)
        out = super().forward(input_ids, of_the_language_model, intermediate_tensors, inputs_embeds, **kwargs)
        if isinstance(out, IntermediateTensors) and self.zspa_positions:
            out[_POSITIONS] = positions.T.contiguous()
        return out

    def language_positions(self, positions: Tensor) -> Tensor:
        """What the language model takes of the positions that vLLM gives."""
        return positions

    def _empty_intermediate_tensors(self, batch_size: int, dtype: torch.dtype, device: torch.device) -> Any:
        empty = self._empty_tensors_of_vllm(batch_size, dtype, device)
        if self.zspa_positions:
            empty[_POSITIONS] = torch.zeros(batch_size, ROWS, dtype=torch.long, device=device)
        return empty

    def select(
        self, batch: Batch, sizes: Sequence[int], encode: Callable[[list[int]], Sequence[Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Per image of a batch the kept features `(l_i, d)` of `(n_i, d)` and their ascending indices `(l_i,)`.

        Args:
            batch: what travels with them.
            sizes: their `n_i`.
            encode: from the images that have to be encoded, by their place in the batch, to their features.
        """
        kept = []
        for turn in turns(sizes, self.zspa_tokens_at_once):
            part = batch.part(turn)
            keys = part.keys if all(part.keys) else None
            visual = self.zspa_vision.features(keys, len(turn), lambda at, turn=turn: encode([turn[i] for i in at]))
            kept += self._keep(visual, part)
        return kept

    def _keep(self, visual: list[Tensor], batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Those of the same settings, and mostly all are, are selected together."""
        kept = [torch.arange(len(v), device=v.device) for v in visual]
        groups: dict[bytes, list[int]] = {}
        for place, settings in enumerate(batch.settings):
            groups.setdefault(settings, []).append(place)
        for settings, places in groups.items():
            pruner = pruner_from_config(self.config, **json.loads(settings))
            if pruner is not None:
                prompts = self._embedded([batch.prompt_ids[place] for place in places], visual[places[0]])
                for place, indices in zip(places, pruner([visual[place] for place in places], prompts)):
                    kept[place] = indices
        return [(v if len(v) == len(indices) else v[indices], indices) for v, indices in zip(visual, kept)]

    def _embedded(self, prompts: list[Tensor], like: Tensor) -> list[Tensor]:
        """Embeddings `(m_i, d)` of token ids `(m_i,)`; images of one request have the same."""
        embed = self.get_language_model().embed_input_ids
        known: dict[tuple[int, ...], Tensor] = {(): like[:0]}
        for ids in prompts:
            if tuple(ids.tolist()) not in known:
                known[tuple(ids.tolist())] = embed(ids.to(like.device))
        return [known[tuple(ids.tolist())] for ids in prompts]


def turns(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Places of images in their order, together while their sizes sum up to `most`; a longer one is alone."""
    found: list[list[int]] = []
    room = 0
    for place, size in enumerate(sizes):
        if not found or size > room:
            found.append([])
            room = most
        found[-1].append(place)
        room -= size
    return found


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


def delta_of(positions: Tensor) -> int:
    """By how much the position of a later token exceeds its column, from the positions `(rows, n)` of a prompt."""
    return int(positions.max()) + 1 - positions.shape[1]
