"""From a request to what a worker needs: fewer placeholders, and with each image the question it is measured against.

There is no state: whatever the selection depends on travels with the image through vLLM's own fields, and takes part
in the hash by which vLLM's caches know it. Without that, a second question about an image would get the tokens that
were kept for the first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.processing import ProcessorInputs, PromptUpdateDetails

from ..remote_code.zspa_config import CALL_SETTINGS
from ..remote_code.zspa_prompt import question_mask
from .engine_pruner import budget_of, engine_pruner, pruner_of

_FIELDS = ("prompt_ids", "settings", "key", "stretch")  # what travels with each image, as zspa_image_key
VISUAL = -1  # a visual token in a stretch
_OWN = "_zspa"  # the entry of hf_processor_mm_kwargs that carries all this between our own methods


class ZspaProcessorMixin:
    """Comes before a family's multimodal processor.

    Attributes:
        modalities: those that are pruned.
        columns_are_positions: whether the unpruned prompt has a position for each token.
    """

    modalities: tuple[str, ...] = ("image",)
    columns_are_positions = True

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        given = dict(inputs.hf_processor_mm_kwargs)
        config = self.info.get_hf_config()
        settings = {name: given.pop(name) for name in CALL_SETTINGS if name in given}
        pruner = pruner_of(config, settings)
        unknown = [name for name in given if name.startswith("zspa_")]
        if unknown:
            known = ", ".join(CALL_SETTINGS)
            raise ValueError(f"mm_processor_kwargs has {unknown[0]}, but a request sets only {known}")
        own = {
            "settings": settings,
            "prompt_ids": list(self._prompt_ids(list(inputs.prompt))) if pruner else [],
            # The times between a video's frames are around them, too.
            "videos": self._hashes(replace(inputs, hf_processor_mm_kwargs=given), "video")
            if pruner and "video" in inputs.mm_data_items
            else [],
            # For a cache that several servers share.
            "config": [
                engine_pruner(config),
                config.mmtok_tau_text,
                *(getattr(config, name) for name in (*CALL_SETTINGS, "zspa_position_ids")),
            ],
            "media": dict(inputs.media_io_kwargs),
        }
        try:
            return super().apply(replace(inputs, hf_processor_mm_kwargs=given | {_OWN: own}), timing_ctx)
        except Exception:
            if inputs.cache is not None:  # it has seen images that the engine never will
                inputs.cache.clear_cache()
            raise

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Room for an image that is not pruned, as a request may ask for."""
        return replace(super().get_dummy_inputs(*args, **kwargs), hf_processor_mm_kwargs={"zspa_keep_ratio": 1.0})

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
        row = torch.tensor([ids])
        is_visual = torch.isin(row, torch.tensor([*placeholder_ids(config)]))
        ends = torch.nn.functional.pad(is_visual[0], (1, 1)).long().diff()  # of runs, in each of which an image stands
        runs = zip((ends == 1).nonzero()[:, 0].tolist(), (ends == -1).nonzero()[:, 0].tolist())
        spans = [(0, first, end - 1) for first, end in runs]
        return tuple(row[question_mask(row, torch.ones_like(row, dtype=torch.bool), is_visual, spans, config)].tolist())

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
        for modality, stretches in self._stretches(mm_items, hf_kwargs, outputs).items():
            outputs[f"zspa_{modality}_stretch"] = stretches
        return outputs

    def _stretches(self, mm_items: Any, hf_kwargs: Mapping[str, Any], outputs: Any) -> dict[str, list[Tensor]]:
        """Per modality the stretch of each image: what the unpruned prompt has from its first visual token to its last,
        token ids `(s,)` with `VISUAL` at the visual ones."""
        stock = _stock(hf_kwargs)
        items = MultiModalKwargsItems.from_hf_inputs(outputs, super()._get_mm_fields_config(outputs, stock))
        updates = self._stock_prompt_updates(mm_items, stock, items)
        return {
            update.modality: [Stretch.of(update, i).ids for i in range(mm_items.get_count(update.modality))]
            for update in updates
            if update.modality in self.modalities and mm_items.get_count(update.modality, strict=False)
        }

    def _keys(self, mm_items: Any, modality: str, hf_kwargs: Mapping[str, Any]) -> list[Tensor]:
        """What each image is known by whatever is asked about it, as bytes `(k,)`."""
        alone = ProcessorInputs(
            prompt=[],
            mm_data_items=mm_items,
            hf_processor_mm_kwargs=_stock(hf_kwargs),
            media_io_kwargs=hf_kwargs[_OWN]["media"],
        )
        return [_as_bytes(found) for found in self._hashes(alone, modality)]

    def _hashes(self, inputs: Any, modality: str) -> list[str]:
        """What vLLM knows images or videos by."""
        return self._get_mm_hashes(inputs).get(modality, [])

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
        pruner = pruner_of(self.info.get_hf_config(), hf_processor_mm_kwargs[_OWN]["settings"])

        def shorter(update: Any) -> Any:
            if update.modality not in self.modalities:
                return update
            field = "replacement" if hasattr(update, "replacement") else "insertion"
            return replace(update, **{field: lambda index: Stretch.of(update, index).pruned(pruner)})

        return [shorter(update) for update in updates]

    def _maybe_apply_prompt_updates(self, mm_items: Any, mm_res: Any) -> Any:
        """Completes what an image is measured against, now that the prompt has the text around its images, and refuses
        a prompt that fits only without the tokens it dropped: the model has no positions that far."""
        prompt_ids, placeholders = super()._maybe_apply_prompt_updates(mm_items, mm_res)
        config, model = self.info.get_hf_config(), self.info.ctx.model_config
        updates = [update for items in mm_res.prompt_updates.values() for updates in items for update in updates]
        dropped = [update.content.dropped for update in updates if isinstance(update.content, _Pruned)]
        if any(dropped):
            text = torch.tensor(self._prompt_ids(prompt_ids), dtype=torch.long)
            for modality in self.modalities:
                for item in filter(None, mm_res.kwargs.get(modality, ())):
                    key = f"zspa_{modality}_prompt_ids"
                    item[key] = replace(item[key], data=text)
        self._check_places(prompt_ids, placeholders)
        limit = positions_of(model)
        reach = len(prompt_ids) + sum(dropped)
        if not self.columns_are_positions or config.zspa_position_ids == "compact" or reach <= limit:
            return prompt_ids, placeholders
        raise ValueError(
            f"with the {len(dropped)} images unpruned the prompt has {reach} tokens, whose positions the kept ones "
            f"keep, but the model has {limit} positions: send fewer images, or serve it with "
            '--hf-overrides \'{"zspa_position_ids": "compact"}\''
        )

    def _check_places(self, ids: list[int], placeholders: Mapping[str, Any]) -> None:
        """Raises `ValueError` where a token that stands for an image or a video was typed before one: in a prompt,
        features are told by the tokens that stand for them."""
        places = []
        for item in sorted((item for items in placeholders.values() for item in items), key=lambda it: it.start_idx):
            embeds = item.is_embed
            inside = range(len(item.tokens)) if embeds is None else embeds.nonzero()[:, 0].tolist()
            places += [item.start_idx + place for place in inside]
        stand = {*placeholder_ids(self.info.get_hf_config())}
        found = [column for column, token in enumerate(ids) if token in stand][: len(places)]
        if found != places:
            typed = next(one for one, place in zip(found, places) if one != place)
            token = self.info.get_tokenizer().decode([ids[typed]])
            raise ValueError(f"the prompt has {token} in it, which stands for what is seen: leave it out")


def positions_of(model_config: Any) -> int:
    """How many positions the model that vLLM serves has."""
    return max(getattr(model_config.hf_text_config, "max_position_embeddings", None) or 0, model_config.max_model_len)


@dataclass
class _Pruned(PromptUpdateDetails):
    """What stands for an image in the pruned prompt."""

    dropped: int = 0


@dataclass(frozen=True)
class Stretch:
    """What the unpruned prompt has for an image or video: visual tokens, and often text before, between and after them,
    such as the breaks between rows, tiles or frames.

    Which visual tokens are kept is known only when the image has been encoded. So the whole stretch from the first to
    the last of them is placeholders, and the text in it comes with the features, see `ZspaModelMixin`.

    Attributes:
        before: token ids of the text before the first visual token.
        ids: from there to the last one, `(s,)`, with `VISUAL` at the visual ones.
        after: token ids of the text behind that.
        placeholder: the id of a visual token.
    """

    before: list[int]
    ids: Tensor
    after: list[int]
    placeholder: int

    @classmethod
    def of(cls, update: Any, index: int) -> "Stretch":
        """The stretch of an image, by its place, from what the stock model's processor puts into the prompt."""
        found = update.content(index) if callable(update.content) else update.content
        details = found if isinstance(found, PromptUpdateDetails) else PromptUpdateDetails.from_seq(list(found))
        full = list(details.full)
        visual = torch.ones(len(full), dtype=torch.bool) if details.is_embed is None else details.is_embed(full)
        places = visual.nonzero()[:, 0].tolist()
        first, end = places[0], places[-1] + 1
        ids = torch.tensor(full).masked_fill(visual, VISUAL)[first:end]
        return cls(full[:first], ids, full[end:], full[first])

    def pruned(self, pruner: Any) -> PromptUpdateDetails:
        """What the pruned prompt has for it; None prunes nothing."""
        visual = int((self.ids == VISUAL).sum())
        dropped = 0 if pruner is None else visual - budget_of(pruner, visual)
        length = len(self.ids) - dropped
        full = [*self.before, *[self.placeholder] * length, *self.after]
        mask = torch.zeros(len(full), dtype=torch.bool)
        mask[len(self.before) : len(self.before) + length] = True
        return _Pruned(full, None if mask.all() else lambda _: mask, dropped)


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
        stretches: see `Stretch.ids`.
    """

    prompt_ids: list[Tensor]
    settings: list[bytes]
    keys: list[bytes]
    stretches: list[Tensor]

    def part(self, places: list[int]) -> "Batch":
        """What belongs to some of the images."""
        return Batch(*([values[i] for i in places] for values in vars(self).values()))


def take_batch(kwargs: dict[str, Any], modality: str) -> Batch:
    """What travels with the images, out of the arguments of `embed_multimodal`."""
    ids, settings, keys, stretches = (kwargs.pop(f"zspa_{modality}_{name}") for name in _FIELDS)
    names = [bytes(own.tolist()) for own in settings], [bytes(key.tolist()) for key in keys]
    return Batch(list(ids), *names, list(stretches))


def _as_bytes(text: str) -> Tensor:
    """A text as uint8 `(k,)`."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _stock(hf_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without ours, which the Hugging Face processor does not know."""
    return {name: value for name, value in hf_kwargs.items() if name != _OWN}
