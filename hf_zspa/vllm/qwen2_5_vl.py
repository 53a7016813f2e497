"""Qwen2.5-VL in vLLM, images and videos."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models import qwen2_5_vl, qwen2_vl
from vllm.multimodal import MULTIMODAL_REGISTRY

from .internals import ask_for_positions_after_encoding
from .processing import ZspaProcessorMixin, placeholder_ids, take_batch
from .pruning import Item, ZspaModelMixin, columns_of, delta_of, prompt_positions, with_places, without_places

_INPUTS = {  # per modality the arguments of `embed_multimodal`, patches and then features first
    "image": ("pixel_values", "image_embeds", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_embeds", "video_grid_thw", "second_per_grid_ts"),
}


class ZspaQwen2_5_VLProcessor(ZspaProcessorMixin, qwen2_5_vl.Qwen2_5_VLMultiModalProcessor):
    """Fewer placeholders for each image and video."""

    modalities = ("image", "video")

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Checked first: what vLLM's cache of processed images has seen must reach the engine."""
        are = [token in placeholder_ids(self.info.get_hf_config()) for token in inputs.prompt]
        if not all(are) and any(one and other for one, other in zip(are, are[1:])):  # vLLM's dummies have no text
            raise ValueError(
                "the prompt has no token of text between two images or videos, by which their positions are told "
                "apart: write <|vision_start|><|image_pad|><|vision_end|>, as the chat template does"
            )
        return super().apply(inputs, timing_ctx)

    def _stock_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        """Those of Qwen2-VL, which drop nothing from a video by vLLM's own method."""
        base = qwen2_vl.Qwen2VLMultiModalProcessor._get_prompt_updates
        return base(self, mm_items, hf_processor_mm_kwargs, out_mm_kwargs)


@MULTIMODAL_REGISTRY.register_processor(
    ZspaQwen2_5_VLProcessor,
    info=qwen2_5_vl.Qwen2_5_VLProcessingInfo,
    dummy_inputs=qwen2_5_vl.Qwen2_5_VLDummyInputsBuilder,
)
class ZspaQwen2_5_VLForConditionalGeneration(ZspaModelMixin, qwen2_5_vl.Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        ask_for_positions_after_encoding(vllm_config)
        self.is_multimodal_pruning_enabled = True  # the encoder's CUDA graph would go past `embed_multimodal`

    def embed_multimodal(self, **kwargs: Any) -> Any:
        found: tuple[Tensor, ...] = ()
        for modality, names in _INPUTS.items():
            given = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
            if not given:
                continue
            grids = given[f"{modality}_grid_thw"].tolist()
            sizes = [math.prod(grid) // self.visual.spatial_merge_size**2 for grid in grids]
            kept = self.select(take_batch(kwargs, modality), sizes, partial(self._encode, modality, given))
            steps = self._time_steps(given, modality, len(grids))
            for (features, indices), grid, step in zip(kept, grids, steps):
                found += (with_places(features, self._places(indices, grid, step)),)
        return found

    def _encode(self, modality: str, given: dict[str, Any], places: list[int]) -> Sequence[Tensor]:
        """Features of some of the images or videos, whose patches stand one behind the other."""
        grids = given[f"{modality}_grid_thw"]
        if places != list(range(len(grids))):
            patches = _INPUTS[modality][0] if _INPUTS[modality][0] in given else _INPUTS[modality][1]
            sizes = grids.prod(-1) * len(given[patches]) // int(grids.prod(-1).sum())
            parts = given[patches].split(sizes.tolist())
            given = given | {patches: torch.cat([parts[i] for i in places]), f"{modality}_grid_thw": grids[places]}
            if "second_per_grid_ts" in given:
                given["second_per_grid_ts"] = [given["second_per_grid_ts"][i] for i in places]
        parse = self._parse_and_validate_image_input if modality == "image" else self._parse_and_validate_video_input
        process = self._process_image_input if modality == "image" else self._process_video_input
        return process(parse(**given))

    def _time_steps(self, given: Any, modality: str, count: int) -> list[float]:
        """Per image or video how far a step in time moves its positions."""
        seconds = given.get("second_per_grid_ts") if modality == "video" else None
        steps = [1.0] * count if seconds is None else [float(s) for s in seconds]
        per_second = getattr(self.config.vision_config, "tokens_per_second", 1.0) if modality == "video" else 1.0
        return [step * per_second for step in steps]

    def _places(self, indices: Tensor, grid: list[int], speed: float) -> Tensor:
        """Time, height and width `(3, l)` of tokens `(l,)` of a grid of patches."""
        _, height, width = grid
        merge = self.visual.spatial_merge_size
        rows, columns = height // merge, width // merge
        time = (indices // (rows * columns) * speed).long()
        return torch.stack([time, indices // columns % rows, indices % columns])

    def _items(self, mm_features: Sequence[Any]) -> Iterator[Item]:
        ordered = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        for feature, (offset, t, h, w, speed) in zip(ordered, self.iter_mm_grid_thw(ordered)):
            after = max(int((t - 1) * speed), h - 1, w - 1) + 1
            yield Item(offset, feature.mm_position.length, after)

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        return prompt_positions(len(input_tokens), list(self._items(mm_features)))

    def recompute_mrope_positions(
        self, input_ids: Any, multimodal_embeddings: Sequence[Tensor], mrope_positions: Tensor, num_computed_tokens: int
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        """Every image stands between two tokens of text, whose positions say where it begins."""
        if not len(multimodal_embeddings):
            return multimodal_embeddings, mrope_positions, delta_of(mrope_positions)
        positions = mrope_positions.clone()
        placeholders = placeholder_ids(self.config)
        ids = torch.as_tensor(input_ids).cpu()
        text = ~torch.isin(ids, torch.tensor(placeholders))
        features = []
        for embeddings, where in zip(
            multimodal_embeddings, columns_of(multimodal_embeddings, ids, placeholders, num_computed_tokens)
        ):
            kept, places = without_places(embeddings, self.visual.out_hidden_size)
            if len(where):
                before = text[: int(where[0])].nonzero()[-1:, 0]
                start = positions[0, before.to(positions.device)].sum() + len(before)  # 0 where there is none
                positions[:, where.to(positions.device)] = start + places.to(positions.device)
            features.append(kept)
        return features, positions, delta_of(positions)
