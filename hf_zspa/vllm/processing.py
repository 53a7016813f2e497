"""From a request to what a worker needs: fewer placeholders, and with each image the question it is measured against.

There is no state: whatever the selection depends on travels with the image through vLLM's own fields, and takes part
in the hash by which vLLM's caches know it. Without that, a second question about an image would get the tokens that
were kept for the first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import ProcessorInputs

from ..remote_code.zspa_config import check_fields, pruner_from_config
from ..remote_code.zspa_prompt import prompt_mask

RATIOS = ("zspa_keep_ratio", "zspa_core_ratio")  # arguments of a request (mm_processor_kwargs)
_FIELDS = ("prompt_ids", "ratios", "key")  # what travels with each image, as zspa_image_key
_PLAN = "_zspa_plan"  # the entry of hf_processor_mm_kwargs that carries the plan between our own methods


@dataclass(frozen=True)
class Plan:
    """What a request asks of the selection; equal plans hash alike.

    Attributes:
        keep_ratio, core_ratio: of this request.
        prompt_ids: token ids of the prompt's text within the scope.
    """

    keep_ratio: float
    core_ratio: float
    prompt_ids: tuple[int, ...]


class ZspaProcessorMixin:
    """Comes before a family's multimodal processor.

    Attributes:
        modalities: those that are pruned.
    """

    modalities: tuple[str, ...] = ("image",)

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        given = dict(inputs.hf_processor_mm_kwargs)
        keep_ratio, core_ratio = (given.pop(name, None) for name in RATIOS)
        config = self.info.get_hf_config()
        check_fields(config)
        pruner = pruner_from_config(config, keep_ratio, core_ratio)
        plan = Plan(
            pruner.keep_ratio if pruner else 1.0,
            pruner.core_ratio if pruner else 0.0,
            self._prompt_ids(list(inputs.prompt)) if pruner else (),
        )
        own = {RATIOS[0]: plan.keep_ratio, RATIOS[1]: plan.core_ratio, _PLAN: list(plan.prompt_ids)}
        return super().apply(replace(inputs, hf_processor_mm_kwargs=given | own), timing_ctx)

    def _prompt_ids(self, ids: list[int]) -> tuple[int, ...]:
        """The tokens of the prompt that an image is measured against, as in `ZspaVisualsMixin`."""
        config = self.info.get_hf_config()
        never_text = [*(config.zspa_special_token_ids or []), *placeholder_ids(config)]
        row = torch.tensor([ids])
        is_text = ~torch.isin(row, torch.tensor(never_text))
        markers = config.zspa_query_start_ids, config.zspa_query_end_ids
        return tuple(row[prompt_mask(row, is_text, config.zspa_prompt_scope, *markers)].tolist())

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        outputs = super()._apply_hf_processor_main(mm_items, _stock(hf_kwargs))
        if _PLAN not in hf_kwargs:
            return outputs
        ids = torch.tensor(hf_kwargs[_PLAN], dtype=torch.long)
        ratios = torch.tensor([hf_kwargs[name] for name in RATIOS], dtype=torch.float64)
        for modality in self.modalities:
            count = mm_items.get_count(modality, strict=False)
            if count:
                outputs[f"zspa_{modality}_prompt_ids"] = [ids.clone() for _ in range(count)]
                outputs[f"zspa_{modality}_ratios"] = ratios.expand(count, -1).clone()
                outputs[f"zspa_{modality}_key"] = self._keys(mm_items, modality, _stock(hf_kwargs))
        return outputs

    def _keys(self, mm_items: Any, modality: str, hf_kwargs: Mapping[str, Any]) -> list[Tensor]:
        """What each image is known by whatever is asked about it, as bytes `(k,)`."""
        alone = ProcessorInputs(prompt=[], mm_data_items=mm_items, hf_processor_mm_kwargs=hf_kwargs)
        hashes = alone.get_mm_hashes(self.info.model_id, self.info.ctx.get_mm_config().mm_hasher_algorithm)[modality]
        return [torch.frombuffer(bytearray(found.encode()), dtype=torch.uint8) for found in hashes]

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = dict(super()._get_mm_fields_config(hf_inputs, _stock(hf_processor_mm_kwargs)))
        for modality in self.modalities:
            for name in _FIELDS:
                fields[f"zspa_{modality}_{name}"] = MultiModalFieldConfig.batched(modality, keep_on_cpu=True)
        return fields

    def _stock_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        """The placeholders of the unpruned model."""
        return super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        updates = self._stock_prompt_updates(mm_items, _stock(hf_processor_mm_kwargs), out_mm_kwargs)
        config = self.info.get_hf_config()
        pruner = pruner_from_config(config, *(hf_processor_mm_kwargs.get(name) for name in RATIOS))

        def shorter(replacement: Callable[[int], list[int]]) -> Callable[[int], list[int]]:
            def of_item(index: int) -> list[int]:
                whole = replacement(index)
                return whole if pruner is None else whole[: pruner.budget(len(whole))]

            return of_item

        return [
            replace(update, replacement=shorter(update.replacement)) if update.modality in self.modalities else update
            for update in updates
        ]


def placeholder_ids(config: Any) -> list[int]:
    """The ids of image and video placeholders."""
    names = ("image_token_id", "image_token_index", "video_token_id")
    return sorted({getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)})


@dataclass(frozen=True)
class Batch:
    """What travels with the images of a batch, one of each for an image.

    Attributes:
        prompt_ids: token ids `(m,)` of the prompt.
        ratios: keep ratio and core ratio `(2,)`, float64.
        keys: what the image is known by.
    """

    prompt_ids: list[Tensor]
    ratios: list[Tensor]
    keys: list[bytes]


def take_batch(kwargs: dict[str, Any], modality: str) -> Batch | None:
    """What travels with the images, out of the arguments of `embed_multimodal`; None in vLLM's profiling."""
    ids, ratios, keys = (kwargs.pop(f"zspa_{modality}_{name}", None) for name in _FIELDS)
    return None if ids is None else Batch(list(ids), list(ratios), [bytes(key.tolist()) for key in keys])


def _stock(hf_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without ours, which the Hugging Face processor does not know."""
    return {name: value for name, value in hf_kwargs.items() if name not in (*RATIOS, _PLAN)}
