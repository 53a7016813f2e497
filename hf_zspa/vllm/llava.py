"""LLaVA-1.5 and LLaVA-NeXT in vLLM."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from vllm.model_executor.models import llava, llava_next
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig

from .internals import ask_for_positions_after_encoding, preserves
from .processing import ZspaProcessorMixin, placeholder_ids, take_batch
from .pruning import Item, ZspaModelMixin, columns_of, delta_of, prompt_positions, with_places, without_places

_WHOLE = "zspa_image_tokens"  # per image, its tokens before pruning


class _ProcessorMixin(ZspaProcessorMixin):
    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        if preserves(self.info.get_hf_config()):  # first: what vLLM's cache of images has seen must reach the engine
            self._check_positions(len(inputs.prompt), inputs.mm_data_items)
        return super().apply(inputs, timing_ctx)

    def _check_positions(self, length: int, mm_items: Any) -> None:
        """Refuses a prompt that fits only without the tokens it dropped: the model has no such positions."""
        images = mm_items.get_count("image", strict=False)
        if not images or any(image is None for image in mm_items["image"].get_all()):
            return  # one that is known to vLLM's cache alone, from a request that passed
        reach = length - images + sum(self._lengths(mm_items))
        model = self.info.ctx.model_config
        limit = max(model.hf_text_config.max_position_embeddings, model.max_model_len)
        if reach > limit:
            raise ValueError(
                f"with the {images} images unpruned the prompt has {reach} tokens, whose positions the kept ones "
                f"keep, but the model has {limit} positions: send fewer images, or serve it with "
                '--hf-overrides \'{"zspa_position_ids": "compact"}\''
            )

    def _lengths(self, mm_items: Any) -> list[int]:
        """Tokens of each image before pruning."""
        images = mm_items.get_count("image", strict=False)
        if not images:
            return []
        (update,) = self._stock_prompt_updates(mm_items, {}, None)
        return [len(update.replacement(i)) for i in range(images)]

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        outputs = super()._apply_hf_processor_main(mm_items, hf_kwargs)
        lengths = self._lengths(mm_items)
        return outputs if not lengths else outputs | {_WHOLE: torch.tensor(lengths)}

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs)
        return {**fields, _WHOLE: MultiModalFieldConfig.batched("image", keep_on_cpu=True)}


class ZspaLlavaProcessor(_ProcessorMixin, llava.LlavaMultiModalProcessor):
    """Fewer placeholders for each image."""


class ZspaLlavaNextProcessor(_ProcessorMixin, llava_next.LlavaNextMultiModalProcessor):
    """Fewer placeholders for each image."""


class _ModelMixin(ZspaModelMixin):
    """Keeps a few tokens of each image, and their positions if the checkpoint says so.

    vLLM's M-RoPE has three rows of positions, of which the language model gets the first. The second keeps
    the position of the image's first token, from which the first can be filled in any number of times, and the third
    that of its last token before pruning, so that the greatest position of a prompt is right whatever was dropped.
    """

    supports_mrope: ClassVar[Literal[True]] = True
    supports_multimodal_pruning: ClassVar[Literal[True]] = True
    supported_video_pruning_methods = ("evs",)

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.zspa_positions = preserves(self.config)
        if self.zspa_positions:
            ask_for_positions_after_encoding(vllm_config)

    def language_positions(self, positions: Tensor) -> Tensor:
        """Plain positions `(n,)`: a Llama that is compiled expects no others."""
        return positions[0] if positions.ndim == 2 else positions

    def embed_multimodal(self, **kwargs: Any) -> Any:
        batch, sizes = take_batch(kwargs, "image"), [int(size) for size in kwargs.pop(_WHOLE)]
        encode = super().embed_multimodal
        kept = self.select(batch, sizes, lambda places: encode(**some_of(kwargs, places)))
        if not self.zspa_positions:
            return tuple(features for features, _ in kept)
        return tuple(with_places(features, indices[None]) for features, indices in kept)

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        items = [Item(f.mm_position.offset, f.mm_position.length, int(f.data[_WHOLE].data.item())) for f in features]
        positions, delta = prompt_positions(len(input_tokens), items)
        for item in items:
            positions[2, item.offset : item.offset + item.kept] += item.after - 1
        return positions, delta

    def recompute_mrope_positions(
        self, input_ids: Any, multimodal_embeddings: Sequence[Tensor], mrope_positions: Tensor, num_computed_tokens: int
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        if not len(multimodal_embeddings):
            return multimodal_embeddings, mrope_positions, delta_of(mrope_positions)
        positions = mrope_positions.clone()
        columns = columns_of(multimodal_embeddings, input_ids, placeholder_ids(self.config), num_computed_tokens)
        features = []
        for embeddings, where in zip(multimodal_embeddings, columns):
            kept, (indices,) = without_places(embeddings, self.config.get_text_config().hidden_size)
            where = where.to(positions.device)
            positions[0, where] = positions[1, where] + indices.to(positions.device)
            features.append(kept)
        return features, positions, delta_of(positions)


def some_of(kwargs: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """The arguments of some of the images of a batch."""
    return {
        name: value[list(places)] if isinstance(value, Tensor) else [value[place] for place in places]
        for name, value in kwargs.items()
    }


class _InfoMixin:
    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Unpruned, as a request may ask for it."""
        return {"image": self.get_max_image_tokens()}


class ZspaLlavaInfo(_InfoMixin, llava.LlavaProcessingInfo):
    """How long an image may be."""


class ZspaLlavaNextInfo(_InfoMixin, llava_next.LlavaNextProcessingInfo):
    """How long an image may be."""


@MULTIMODAL_REGISTRY.register_processor(
    ZspaLlavaProcessor, info=ZspaLlavaInfo, dummy_inputs=llava.LlavaDummyInputsBuilder
)
class ZspaLlavaForConditionalGeneration(_ModelMixin, llava.LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""


@MULTIMODAL_REGISTRY.register_processor(
    ZspaLlavaNextProcessor, info=ZspaLlavaNextInfo, dummy_inputs=llava.LlavaDummyInputsBuilder
)
class ZspaLlavaNextForConditionalGeneration(_ModelMixin, llava_next.LlavaNextForConditionalGeneration):
    """`LlavaNextForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""
