"""Inside a worker: features in, kept features out, with the text that stands between them."""

import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, chain
from typing import Any, ClassVar

import torch
import vllm
from torch import Tensor
from vllm.logger import init_logger
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from ..remote_code.zspa_calling import choose, merges
from ..remote_code.zspa_config import fields_of, fields_read, shown
from .engine_pruner import engine_pruner, pruner_of
from .internals import forget_features_with_vllm
from .processing import VISUAL, Batch, ZspaProcessorMixin, take_batch
from .touched import known
from .vision_cache import VisionCache

logger = init_logger("vllm.hf_zspa")

ROWS = 3  # of M-RoPE: time, height, width
_POSITIONS = "zspa_positions"  # what goes from one stage of a pipeline to the next beside the hidden states


def served(model: type) -> type:
    """A class decorator: gives a model that prunes the processor of its stock class, which then asks for fewer
    placeholders, and takes no modality that is not pruned."""
    stock = model._processor_factory

    def processor(*args: Any, **kwargs: Any) -> Any:
        chosen = stock.processor if isinstance(stock.processor, type) else type(stock.processor(*args, **kwargs))
        return _pruning(chosen, model.zspa_processor)(*args, **kwargs)

    def info(*args: Any, **kwargs: Any) -> Any:
        made = stock.info(*args, **kwargs)
        limits, pruned = made.get_supported_mm_limits, model.zspa_processor.modalities
        made.get_supported_mm_limits = lambda: {kind: most for kind, most in limits().items() if kind in pruned}
        return made

    register = MULTIMODAL_REGISTRY.register_processor(processor, info=info, dummy_inputs=stock.dummy_inputs)
    return register(model)


@cache
def _pruning(stock: type, mixin: type) -> type:
    return types.new_class(f"Zspa{stock.__name__}", (mixin, stock))


class ZspaModelMixin:
    """Comes before a family's model class.

    Attributes:
        zspa_processor: what comes before its processor's class.
        zspa_rests_on: the parts of vLLM's model files that it rests on, see `touched.py`.
        zspa_flat: arguments of `embed_multimodal` that have what belongs to all images one behind the other, each with
            the argument that says how much of it is whose: `(images,)`, or `(images, k)` whose product it is.
        zspa_positions: whether kept tokens keep positions of the full sequence, which are known only after encoding.
    """

    zspa_processor: ClassVar[type[ZspaProcessorMixin]] = ZspaProcessorMixin
    zspa_flat: ClassVar[Mapping[str, str]] = {}
    zspa_positions = True

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        lora = vllm_config.lora_config
        if lora is not None and lora.enable_tower_connector_lora:
            raise ValueError(
                "--enable-tower-connector-lora is not supported with a checkpoint that prunes: leave it out"
            )
        if vllm_config.compilation_config.cudagraph_mm_encoder:
            raise ValueError(
                "cudagraph_mm_encoder of --compilation-config encodes images past the selection: leave it out"
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = self.config
        pruner = pruner_of(config, {"zspa_keep_ratio": 0.5})
        if pruner is not None and merges(pruner) and getattr(self, "use_deepstack", False):
            raise ValueError(f"{type(pruner).__name__} merges visual tokens, which DeepStack's features cannot be")
        self.zspa_vision = VisionCache(config.zspa_vision_cache_mb, vllm_config.device_config.device)
        forget_features_with_vllm()
        # As many as a step without pruning encodes at once; the scheduler counts those that are kept.
        self.zspa_tokens_at_once = vllm_config.scheduler_config.max_num_batched_tokens
        read = fields_read(fields_of(config))
        if engine_pruner(config):
            read = {"zspa_keep_ratio": config.zspa_keep_ratio}
        if known()["versions"].get(vllm.__version__.split("+")[0]) != "run":
            logger.info_once(
                "the tests of hf_zspa have not been run with vLLM %s; what it rests on is as in %s",
                vllm.__version__, " and ".join(known()["versions"]), scope="global",
            )  # fmt: skip
        logger.info_once(
            "hf_zspa prunes by %s: %s, positions %s%s",
            engine_pruner(config) or config.zspa_method,
            ", ".join(f"{shown(name)} {value}" for name, value in read.items()),
            config.zspa_position_ids, "" if config.zspa_keep_ratio < 1 else " (only requests that ask for it)",
            scope="global",
        )  # fmt: skip
        if hasattr(self, "make_empty_intermediate_tensors"):  # it can be a stage of a pipeline
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

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """Per image or video what stands at its placeholders: its kept features, and in their places the embeddings of
        the text between them, `(l_i, d)`; with positions in further columns where those are kept."""
        found: list[Tensor] = []
        for modality in self.zspa_processor.modalities:
            if f"zspa_{modality}_stretch" in kwargs:
                batch = take_batch(kwargs, modality)
                kept = self._select(batch, lambda places: self._encode(kwargs, places))
                for place, (features, indices) in enumerate(kept):
                    rows, columns = self._with_text(features, indices, batch.stretches[place])
                    found.append(self.with_places(rows, columns, batch.stretches[place], kwargs, modality, place))
        return tuple(found)

    def with_places(
        self, rows: Tensor, columns: Tensor, stretch: Tensor, kwargs: Mapping[str, Any], modality: str, place: int
    ) -> Tensor:
        """Rows `(l, d)` with their positions behind them, if they need any; their columns in the stretch are `(l,)`."""
        return rows

    def _encode(self, kwargs: Mapping[str, Any], places: list[int]) -> Sequence[Tensor]:
        """The stock class's features of some of the images of a batch."""
        given = {}
        for name, value in kwargs.items():
            if name in self.zspa_flat:
                sizes = torch.as_tensor(kwargs[self.zspa_flat[name]])
                ends = [0, *accumulate((sizes.prod(-1) if sizes.ndim > 1 else sizes).tolist())]
                scale = ends[-1] // len(value)  # features have fewer rows than patches
                parts = [value[ends[i] // scale : ends[i + 1] // scale] for i in places]
                given[name] = torch.cat(parts) if isinstance(value, Tensor) else [*chain(*parts)]
            elif isinstance(value, Tensor) and value.ndim:
                given[name] = value[places]
            else:
                given[name] = [value[i] for i in places] if isinstance(value, list) else value
        return super().embed_multimodal(**given)

    def _with_text(self, features: Tensor, indices: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        """Kept features `(l, d)` with the text of their stretch between them, and the columns of all in the stretch."""
        text = (stretch != VISUAL).nonzero()[:, 0]
        places = (stretch == VISUAL).nonzero()[:, 0][indices.cpu()]
        if not len(text):
            return features, places
        columns, order = torch.cat([places, text]).sort()
        words = self.get_language_model().embed_input_ids(stretch[text].to(features.device))
        padded = words.new_zeros(len(words), features.shape[1])  # DeepStack's levels, which text has none of
        padded[:, : words.shape[1]] = words
        return torch.cat([features, padded.to(features)])[order.to(features.device)], columns

    def _select(self, batch: Batch, encode: Callable[[list[int]], Sequence[Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Per image of a batch the kept features `(l_i, d)` of `(n_i, d)` and their ascending indices `(l_i,)`.

        Args:
            batch: what travels with them.
            encode: from the images that have to be encoded, by their place in the batch, to their features.
        """
        kept = []
        sizes = [int((stretch == VISUAL).sum()) for stretch in batch.stretches]
        for turn in turns(sizes, self.zspa_tokens_at_once):
            part = batch.part(turn)
            keys = part.keys if all(part.keys) else None
            visual = self.zspa_vision.features(keys, len(turn), lambda at, turn=turn: encode([turn[i] for i in at]))
            wanted, found = [sizes[i] for i in turn], [len(features) for features in visual]
            if found != wanted:
                raise RuntimeError(f"images of {wanted} tokens have {found} features")
            if keys is None:  # profiling: what choosing takes has to be counted, though nothing is dropped
                self._keep(list(visual), replace(part, settings=[b'{"zspa_keep_ratio": 0.5}'] * len(turn)))
            kept += self._keep(visual, part)
        return kept

    def _keep(self, visual: list[Tensor], batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Those of the same settings, and mostly all are, are selected together."""
        kept = [torch.arange(len(v), device=v.device) for v in visual]
        width = self.config.get_text_config().hidden_size  # DeepStack's levels are behind that
        groups: dict[bytes, list[int]] = {}
        for place, settings in enumerate(batch.settings):
            groups.setdefault(settings, []).append(place)
        for settings, places in groups.items():
            pruner = pruner_of(self.config, json.loads(settings))
            if pruner is not None:
                seen = [visual[place][:, :width] for place in places]
                prompts = self._embedded([batch.prompt_ids[place] for place in places], seen[0])
                chosen, merged = choose(seen, prompts, pruner)
                for place, indices in zip(places, chosen):
                    kept[place] = indices
                for place, features in zip(places, merged or ()):
                    visual[place] = visual[place].index_copy(0, kept[place], features)
        return [(v if len(v) == len(indices) else v[indices], indices) for v, indices in zip(visual, kept)]

    def _embedded(self, prompts: list[Tensor], like: Tensor) -> list[Tensor]:
        """Embeddings `(m_i, d)` of token ids `(m_i,)`; images of one request have the same."""
        embed = self.get_language_model().embed_input_ids
        made: dict[tuple[int, ...], Tensor] = {(): like[:0]}
        for ids in prompts:
            if tuple(ids.tolist()) not in made:
                made[tuple(ids.tolist())] = embed(ids.to(like.device))
        return [made[tuple(ids.tolist())] for ids in prompts]


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
