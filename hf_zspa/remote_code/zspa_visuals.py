"""From a prompt with images to the visual tokens that are kept: encoding, matching images to rows, selection."""

from typing import Any

import torch
from torch import Tensor

from .zspa_calling import choose
from .zspa_compat import check_version, to_device
from .zspa_config import check_fields, check_settings, fields_of
from .zspa_encoder import EncoderOutput, as_output, loaded, takes_encoder_outputs
from .zspa_methods import pruner_from_config
from .zspa_prefill import PrunedVisuals
from .zspa_prompt import (
    check_one_sample_per_row,
    check_prompt,
    marks,
    question_mask,
    rows_of_images,
    spans_of_images,
)
from .zspa_selection import METHODS, VisualTokenPruner


class ZspaVisualsMixin:
    """Selects visual tokens, for any model whose visual tokens stand at placeholders in its prompt. The generating
    model and the base model inside it are both ones; what is a family's own stands on the class of its base model.

    Attributes:
        visual_inputs: modality → the arguments of `get_<modality>_features`, the pixels first.
        images_are: what an image is: "entries" of the encoder's output, "runs" of placeholders, or, where its tiles
            have text between them, "runs from a marker", one of `zspa_image_marker_ids` being in front of the first
            one, or "runs to a marker", one being in front of the last.
        completed_by_forward: modalities to whose features `forward` adds tokens of its own before 5.19, so that none of
            them can be left out there.
    """

    visual_inputs: dict[str, tuple[str, ...]]
    images_are = "entries"
    completed_by_forward: tuple[str, ...] = ()

    # transformers reads the source of a class's module for these, and the layers stand in the stock class's.
    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return cls._stock_class()._can_set_attn_implementation()

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return cls._stock_class()._can_set_experts_implementation()

    @classmethod
    def _stock_class(cls):
        others = (c for c in cls.mro() if not issubclass(c, ZspaVisualsMixin))
        return next(c for c in others if hasattr(c, "_can_set_attn_implementation"))

    def pruner_for_call(self, visual_token_pruner=None, **settings) -> VisualTokenPruner | None:
        """The pruner that a call with these arguments uses; None where nothing is pruned and the stock class runs.

        Args:
            settings: those of `CALL_SETTINGS` in place of the config's; None is none.

        Raises:
            ValueError: a setting or field is outside its range or not read by the method, or a pruner is given too.
            TypeError: `visual_token_pruner` is not one.
        """
        check_fields(fields_of(self.config), self.config_class.allowed_position_ids)
        if visual_token_pruner is None:
            return pruner_from_config(self.config, **settings)
        if given := [name for name, value in settings.items() if value is not None]:
            raise ValueError(f"pass visual_token_pruner or {' and '.join(given)}, not both: the pruner has its own")
        if type(visual_token_pruner) in METHODS.values() and visual_token_pruner.keep_ratio == 1:
            return None
        if isinstance(visual_token_pruner, type) or not isinstance(visual_token_pruner, VisualTokenPruner):
            raise TypeError(
                f"visual_token_pruner is {visual_token_pruner!r}, but must have budget(n) and "
                "__call__(visual_tokens, prompt_tokens), as hf_zspa.ZspaPruner() has"
            )
        return visual_token_pruner

    def prune_visuals(
        self, input_ids, attention_mask, pruner: VisualTokenPruner, call: dict[str, Any]
    ) -> PrunedVisuals:
        """Encodes the images and videos of a call and selects, by its prompt.

        What the lengths follow from is looked at before the images are encoded, so that a GPU is waited for when it has
        nothing to do yet, and not again.

        Args:
            input_ids: `(batch, S)`.
            attention_mask: `(batch, S)`, or None where nothing is padding.
            call: the call's other arguments, of which those that describe the prompt are read.

        Raises:
            ValueError: the prompt is not token ids with a mask of their shape, the images do not fit it, or this
                version of transformers is too old for the family.
            TypeError: there is no setting of a name that looks like one.
        """
        check_version(self.config_class.first_transformers)
        check_prompt(input_ids, attention_mask, call.get("inputs_embeds"))
        check_settings(call)
        self._check_modalities(call)
        described = self._described(call | {"input_ids": input_ids, "attention_mask": attention_mask})
        ids, mask = described["input_ids"], described["attention_mask"]
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        check_one_sample_per_row(described)
        pruned = PrunedVisuals(torch.ones_like(input_ids, dtype=torch.bool), described=described)
        pruned.tail = _common_end(mask & ~self._is_placeholder(ids), described.get("position_ids"))
        lengths, encoded, spans = mask.sum(1).tolist(), [], []
        unpruned = list(lengths)
        for modality, names in self.visual_inputs.items():
            given = {name: call[name] for name in names if call.get(name) is not None}
            output = self._encode(modality, given, (call.get("mm_encoder_outputs") or {}).get(modality))
            if output is None:
                continue
            spots = ids == self._base.placeholder_id(modality)
            output = EncoderOutput.of(output, self._sizes_of_images(ids, spots))
            rows = rows_of_images(spots.sum(1).tolist(), [len(image) for image in output.images], modality)
            spans += spans_of_images(spots, output.images)
            encoded.append((modality, spots, output, rows))
            pruned.inputs.update(given)
        prompts = self._prompt_tokens(ids, mask, spans, input_ids.device)
        while encoded:
            modality, spots, output, rows = encoded.pop(0)
            sizes, to_fill = [len(image) for image in output.images], input_ids == self._base.placeholder_id(modality)
            shown = [s.nonzero()[:, 0] for s in mask[spots].split(sizes)]  # the mask may hide some
            indices, merged = self._select(output.images, [prompts[row] for row in rows], shown, pruner)
            pruned.keep = pruned.keep.masked_scatter(to_fill, _kept_placeholders(sizes, indices).to(to_fill.device))
            pruned.outputs[modality], pruned.rows[modality] = output.kept(indices, merged), rows
            del output  # from here on only what is kept takes memory
            for row, visible, chosen in zip(rows, shown, indices):
                lengths[row] -= len(visible) - len(chosen)
            pruned.indices += indices
        pruned.width = input_ids.shape[1] if lengths == unpruned else max(lengths)
        pruned.padded = min(lengths) < pruned.width
        return pruned

    @property
    def _pixels(self) -> list[str]:
        return [names[0] for names in self.visual_inputs.values()]

    def _without_pixels(self, kwargs: dict) -> dict:
        return {name: value for name, value in kwargs.items() if name not in (*self._pixels, "mm_encoder_outputs")}

    def _described(self, call: dict) -> dict:
        """What describes a prompt among a call's arguments: all but the pixels, tensors on the CPU."""
        small = self._without_pixels(call)
        return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in small.items()}

    def _has_visuals(self, kwargs: dict) -> bool:
        """Whether `kwargs` bring images or videos, as pixels or encoded already."""
        encoded = kwargs.get("mm_encoder_outputs")  # from 5.19 on
        if isinstance(encoded, dict):
            encoded = next((output for output in encoded.values() if output is not None), None)
        brought = [encoded, kwargs.get("image_hidden_states"), *(kwargs.get(name) for name in self._pixels)]
        return any(value is not None for value in brought)

    def _check_modalities(self, call: dict) -> None:
        """Raises `ValueError` where a call brings what cannot be told apart, or not be pruned: features in other forms
        than an encoder's output, or what 5.19 was the first version to encode whole."""
        encoded = call.get("mm_encoder_outputs")
        bare = "mm_encoder_outputs" if not isinstance(encoded, dict | None) else "image_hidden_states"
        if not isinstance(encoded, dict | None) or call.get("image_hidden_states") is not None:
            raise ValueError(
                f"{bare} are features that were encoded elsewhere, which cannot be pruned: pass the pixels, or set "
                "zspa_keep_ratio to 1.0"
            )
        encoded = encoded or {}
        names = self.visual_inputs.items()
        brought = [m for m, (pixels, *_) in names if call.get(pixels) is not None or encoded.get(m) is not None]
        if len({self._base.placeholder_id(modality) for modality in brought}) < len(brought):
            raise ValueError(
                f"{' and '.join(f'{modality}s' for modality in brought)} stand at the same placeholders in this model, "
                "which takes one or the other in a call: make a call for each"
            )
        early = [modality for modality in brought if modality in self._base.completed_by_forward]
        if early and not takes_encoder_outputs(self._base):
            raise ValueError(
                f"{early[0]}s of this model can be pruned with transformers 5.19 or later only: install it, or set "
                "zspa_keep_ratio to 1.0"
            )

    def placeholder_id(self, modality: str) -> int:
        """The token that a modality's visual tokens take the place of."""
        return getattr(self.config, f"{modality}_token_id")

    def _sizes_of_images(self, ids: Tensor, spots: Tensor) -> list[int] | None:
        """The tokens of each image by the placeholders at `spots` `(batch, S)`, on the CPU; None where the encoder's
        output says it.

        Raises:
            ValueError: the config does not say what marks an image, or nothing marks one.
        """
        if self._base.images_are == "entries":
            return None
        begins = spots & ~torch.nn.functional.pad(spots, (1, 0))[:, :-1]
        row, column = begins.nonzero().unbind(1)
        opens = row.diff(prepend=row.new_full((1,), -1)) != 0
        if self._base.images_are == "runs":
            opens[:] = True
        else:
            if not self.config.zspa_image_marker_ids:
                raise ValueError(
                    "zspa_image_marker_ids is missing in the model's config, so that the tiles of one image cannot be "
                    "told from another's: convert the base model with hf-zspa convert, which finds it"
                )
            found = marks(ids, self.config.zspa_image_marker_ids).cumsum(1)[row, column]
            marked = found > found.roll(1).masked_fill(opens, 0)
            from_marker = self._base.images_are == "runs from a marker"
            if not marked[opens if from_marker else opens.roll(-1)].all():
                raise ValueError(
                    f"none of the markers {self.config.zspa_image_marker_ids} marks an image of input_ids, so that its "
                    "tiles cannot be told from another's: pass the processor's outputs unchanged"
                )
            opens |= marked if from_marker else marked.roll(1)
        image = opens.cumsum(0)[begins.flatten().cumsum(0)[spots.flatten()] - 1] - 1
        return image.bincount().tolist()

    def _is_placeholder(self, ids: Tensor) -> Tensor:
        found = torch.zeros_like(ids, dtype=torch.bool)
        for modality in self.visual_inputs:  # compared with numbers, which no GPU is waited for to be given
            found |= ids == self._base.placeholder_id(modality)
        return found

    def _prompt_tokens(
        self, ids: Tensor, mask: Tensor, spans: list[tuple[int, int, int]], device: torch.device
    ) -> list[Tensor]:
        """Per row the embeddings `(m, d)` of its prompt's text within the scope, but for what belongs to the images,
        whose `spans` these are; `ids` and the `mask` are on the CPU."""
        is_prompt = question_mask(ids, mask, self._is_placeholder(ids), spans, self.config)
        tokens = self.get_input_embeddings()(to_device(ids[is_prompt], device))
        return list(tokens.split(is_prompt.sum(1).tolist()))

    def _encode(self, modality: str, given: dict[str, Any], outputs) -> Any:
        """What the encoder returns for one modality: `outputs`, which `generate` has from 5.19 on, or from the pixels
        among those `given`; None where there are neither."""
        if outputs is not None or self.visual_inputs[modality][0] not in given:
            return outputs
        pixels, *others = given
        with loaded(self._base):
            encode = getattr(self._base, f"get_{modality}_features")
            return encode(given[pixels], **{name: given[name] for name in others} | as_output())

    def _returns_dict(self, kwargs: dict) -> bool:
        asked = kwargs.get("return_dict")
        return getattr(self.config, "return_dict", True) if asked is None else asked

    @staticmethod
    def _select(
        images: list[Tensor], prompts: list[Tensor], shown: list[Tensor], pruner
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Per image the indices of the tokens kept, of those `shown` to it, indices as well, on the CPU; and what a
        pruner that merges puts in their places."""
        seen = [k for k, visible in enumerate(shown) if len(visible)]
        part = {k: shown[k].to(images[k].device) for k in seen if len(shown[k]) < len(images[k])}
        chosen, merged = choose(
            [images[k][part[k]] if k in part else images[k] for k in seen], [prompts[k] for k in seen], pruner
        )
        indices = [torch.empty(0, dtype=torch.long, device=image.device) for image in images]
        for k, of_shown in zip(seen, chosen):
            indices[k] = part[k][of_shown] if k in part else of_shown
        if merged is not None:
            found = dict(zip(seen, merged))
            merged = [found.get(k, image[:0]) for k, image in enumerate(images)]
        return indices, merged


def _common_end(stays: Tensor, positions: Tensor | None) -> int:
    """How many columns at the end of `(batch, S)` stay in all rows, at positions that rise by one."""
    at_end = stays.all(0)
    if positions is not None:
        rises = (positions[..., : stays.shape[1]].diff(dim=-1) == 1).flatten(0, -2).all(0)
        at_end[1:] &= rises
    return int(at_end.flip(0).cumprod(0).sum())


def _kept_placeholders(sizes: list[int], indices: list[Tensor]) -> Tensor:
    """Bool over all placeholders of the batch in order, True where a visual token is kept."""
    kept = [torch.zeros(n, dtype=torch.bool, device=i.device).scatter(0, i, True) for n, i in zip(sizes, indices)]
    return torch.cat(kept)
