"""From a request to what a worker needs: fewer placeholders, and with each image the question it is measured against.

There is no state: whatever the selection depends on travels with the image through vLLM's own fields, and takes part
in the hash by which vLLM's caches know it. Without that, a second question about an image would get the tokens that
were kept for the first.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import ProcessorInputs

from ..remote_code.zspa_config import CALL_SETTINGS, pruner_from_config
from ..remote_code.zspa_prompt import prompt_mask
from .internals import only_unpruned

_FIELDS = ("prompt_ids", "settings", "key")  # what travels with each image, as zspa_image_key
_OWN = "_zspa"  # the entry of hf_processor_mm_kwargs that carries all this between our own methods


class ZspaProcessorMixin:
    """Comes before a family's multimodal processor.

    Attributes:
        modalities: those that are pruned.
    """

    modalities: tuple[str, ...] = ("image",)

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        given = dict(inputs.hf_processor_mm_kwargs)
        config = self.info.get_hf_config()
        settings = {name: given.pop(name) for name in CALL_SETTINGS if name in given}
        pruner = pruner_from_config(config, **settings)
        unknown = [name for name in given if name.startswith("zspa_")]
        if unknown:
            known = ", ".join(CALL_SETTINGS)
            raise ValueError(f"mm_processor_kwargs has {unknown[0]}, but a request sets only {known}")
        obstacle = only_unpruned(config)
        if pruner and obstacle:
            raise ValueError(obstacle)
        own = {
            "settings": settings,
            "prompt_ids": list(self._prompt_ids(list(inputs.prompt))) if pruner else [],
            # For a cache that several servers share.
            "config": [getattr(config, name) for name in (*CALL_SETTINGS, "zspa_position_ids")],
            "media": dict(inputs.media_io_kwargs),
        }
        return super().apply(replace(inputs, hf_processor_mm_kwargs=given | {_OWN: own}), timing_ctx)

    def get_dummy_mm_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """What vLLM profiles with. It sends one image many times: each of them is encoded, and none is remembered."""
        inputs = super().get_dummy_mm_inputs(*args, **kwargs)
        for modality in self.modalities:
            for item in inputs["mm_kwargs"].get(modality, ()):
                if item is not None:
                    key = f"zspa_{modality}_key"
                    item[key] = replace(item[key], data=torch.empty(0, dtype=torch.uint8))
        return inputs

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
        own = hf_kwargs[_OWN]
        ids = torch.tensor(own["prompt_ids"], dtype=torch.long)
        settings = _as_bytes(json.dumps(own["settings"], sort_keys=True))
        for modality in self.modalities:
            count = mm_items.get_count(modality, strict=False)
            if count:
                outputs[f"zspa_{modality}_prompt_ids"] = [ids.clone() for _ in range(count)]
                outputs[f"zspa_{modality}_settings"] = [settings.clone() for _ in range(count)]
                outputs[f"zspa_{modality}_key"] = self._keys(mm_items, modality, hf_kwargs)
        return outputs

    def _keys(self, mm_items: Any, modality: str, hf_kwargs: Mapping[str, Any]) -> list[Tensor]:
        """What each image is known by whatever is asked about it, as bytes `(k,)`."""
        alone = ProcessorInputs(
            prompt=[],
            mm_data_items=mm_items,
            hf_processor_mm_kwargs=_stock(hf_kwargs),
            media_io_kwargs=hf_kwargs[_OWN]["media"],
        )
        hashes = alone.get_mm_hashes(self.info.model_id, self.info.ctx.get_mm_config().mm_hasher_algorithm)[modality]
        return [_as_bytes(found) for found in hashes]

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
        pruner = pruner_from_config(self.info.get_hf_config(), **hf_processor_mm_kwargs[_OWN]["settings"])

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
        settings: those that its request sets, as JSON.
        keys: what the image is known by; empty for one that is not to be remembered.
    """

    prompt_ids: list[Tensor]
    settings: list[bytes]
    keys: list[bytes]

    def part(self, places: list[int]) -> "Batch":
        """What belongs to some of the images."""
        return Batch(
            [self.prompt_ids[i] for i in places], [self.settings[i] for i in places], [self.keys[i] for i in places]
        )


def take_batch(kwargs: dict[str, Any], modality: str) -> Batch:
    """What travels with the images, out of the arguments of `embed_multimodal`."""
    ids, settings, keys = (kwargs.pop(f"zspa_{modality}_{name}") for name in _FIELDS)
    return Batch(list(ids), [bytes(own.tolist()) for own in settings], [bytes(key.tolist()) for key in keys])


def _as_bytes(text: str) -> Tensor:
    """A text as uint8 `(k,)`."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _stock(hf_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without ours, which the Hugging Face processor does not know."""
    return {name: value for name, value in hf_kwargs.items() if name != _OWN}
