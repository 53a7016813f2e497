"""From a prompt with images to the visual tokens that are kept: encoding, matching images to rows, selection."""

from bisect import bisect_left
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from .zspa_compat import feature_list, loaded
from .zspa_config import FIELDS, check_fields, fields_of, meant_by, pruner_from_config
from .zspa_prefill import PrunedVisuals
from .zspa_prompt import prompt_mask
from .zspa_selection import VisualTokenPruner, ZspaPruner


class ZspaVisualsMixin:
    """Selects visual tokens, for any model whose visual tokens replace placeholders in its prompt.

    Attributes:
        visual_inputs: modality → the arguments of `get_<modality>_features`, the pixels first.
        describing_positions: the arguments of a call that `full_position_ids` needs.
    """

    visual_inputs: dict[str, tuple[str, ...]] = {}
    describing_positions: tuple[str, ...] = ()

    def __init__(self, config, *args, **kwargs):
        for name, default in FIELDS.items():  # a stock config, loaded without trust, may lack them
            if not hasattr(config, name):
                setattr(config, name, default)
        check_fields(fields_of(config), self.config_class.allowed_position_ids)
        super().__init__(config, *args, **kwargs)

    def get_image_features(self, *args, visual_token_pruner=None, prompt_tokens=None, **kwargs):
        """Encodes images as the stock class does and, when given a pruner, selects.

        Args:
            visual_token_pruner: a `VisualTokenPruner`; None returns the stock class's features in its own type.
            prompt_tokens: per image `(m_i, d)`.

        Returns:
            With a pruner, `(kept, indices)`: per image the kept tokens `(l_i, d)` and their ascending indices `(l_i,)`.
        """
        features = super().get_image_features(*args, **kwargs)
        if visual_token_pruner is None:
            return features
        return keep_tokens(feature_list(features), prompt_tokens, visual_token_pruner)

    def full_position_ids(self, input_ids: Tensor, attention_mask: Tensor, described: dict) -> Tensor | None:
        """Positions `(rope_rows, batch, S)` the stock class gives the full prompt; None where it just counts.

        Args:
            input_ids: `(batch, S)`, on the CPU, as the mask is.
            described: those of `describing_positions` that the call has, tensors on the CPU.
        """
        return None

    @torch.no_grad()
    def select_visual_tokens(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visual_token_pruner: VisualTokenPruner | None = None,
        zspa_keep_ratio: float | None = None,
        zspa_core_ratio: float | None = None,
        **visual,
    ) -> list[Tensor]:
        """What `generate` keeps for the same inputs: per image, then per video, ascending indices `(l_i,)`, int64."""
        pruner = self.pruner_for_call(visual_token_pruner, zspa_keep_ratio, zspa_core_ratio) or RecordingPruner()
        return self.prune_visuals(input_ids, attention_mask, pruner, visual, positions=False).indices

    @torch.no_grad()
    def visual_and_prompt_tokens(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **visual
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What a pruner is given for the same inputs: per image `(n_i, d)` visual and `(m_i, d)` prompt tokens."""
        recording = RecordingPruner()
        self.prune_visuals(input_ids, attention_mask, recording, visual, positions=False)
        return recording.visual_tokens, recording.prompt_tokens

    def pruner_for_call(
        self, visual_token_pruner=None, zspa_keep_ratio=None, zspa_core_ratio=None
    ) -> VisualTokenPruner | None:
        """The pruner that a call with these arguments uses; None where nothing is pruned and the stock class runs.

        Raises:
            ValueError: a ratio or field is outside its range, or both a pruner and a ratio are given.
            TypeError: `visual_token_pruner` is not one.
        """
        check_fields(fields_of(self.config), self.config_class.allowed_position_ids)
        if visual_token_pruner is None:
            return pruner_from_config(self.config, zspa_keep_ratio, zspa_core_ratio)
        if zspa_keep_ratio is not None or zspa_core_ratio is not None:
            raise ValueError("pass visual_token_pruner, or zspa_keep_ratio and zspa_core_ratio, not both")
        if type(visual_token_pruner) is ZspaPruner and visual_token_pruner.keep_ratio == 1:
            return None
        if isinstance(visual_token_pruner, type) or not isinstance(visual_token_pruner, VisualTokenPruner):
            raise TypeError(
                f"visual_token_pruner is {visual_token_pruner!r}, but must have budget(n) and "
                "__call__(visual_tokens, prompt_tokens), as hf_zspa.ZspaPruner() has"
            )
        return visual_token_pruner

    def prune_visuals(
        self, input_ids, attention_mask, pruner: VisualTokenPruner, visual: dict[str, Any], positions: bool = True
    ) -> PrunedVisuals:
        """Encodes the images and videos of a call and selects, by its prompt.

        Args:
            input_ids: `(batch, S)`.
            attention_mask: `(batch, S)`, or None where nothing is padding.
            visual: the call's other arguments, of which the visual ones are read.
            positions: whether the prompt's positions are counted; they are not where `visual` has `position_ids`.

        Raises:
            ValueError: the prompt is not token ids with a mask of their shape, or the images do not fit it.
            TypeError: there is no setting of a name that looks like one.
        """
        _check_prompt(input_ids, attention_mask)
        _check_settings(visual)
        # What the lengths follow from is looked at before the images are encoded, so that a GPU is waited for when it
        # has nothing to do yet, and not again.
        ids, mask = input_ids.cpu(), None if attention_mask is None else attention_mask.cpu().bool()
        described = {name: visual[name] for name in self.describing_positions if visual.get(name) is not None}
        described = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in described.items()}
        prompts = self._prompt_tokens(ids, mask, input_ids.device)
        lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
        pruned = PrunedVisuals(torch.ones_like(input_ids, dtype=torch.bool), {}, [])
        any_masked = False
        for modality, names in self.visual_inputs.items():
            given = {name: visual[name] for name in names if visual.get(name) is not None}
            features = self._encode(modality, given, (visual.get("mm_encoder_outputs") or {}).get(modality))
            if features is None:
                continue
            token_id = getattr(self.config, f"{modality}_token_id")
            placeholders, sizes = ids == token_id, [len(image) for image in features]
            some_masked = mask is not None and bool((placeholders & ~mask).any())
            rows = rows_of_images(placeholders.sum(1).tolist(), sizes, modality)
            kept, indices = keep_tokens(features, [prompts[row] for row in rows], pruner)
            del features  # from here on only what is kept takes memory
            spots = input_ids == token_id
            pruned.keep = pruned.keep.masked_scatter(spots, _kept_placeholders(sizes, indices).to(spots.device))
            pruned.features[token_id] = torch.cat(kept)
            if some_masked:  # what is masked is dropped, features and all
                any_masked = True
                stays = attention_mask[spots & pruned.keep].bool()
                pruned.features[token_id] = pruned.features[token_id][stays.to(kept[0].device)]
            for row, size, chosen in zip(rows, sizes, indices):
                lengths[row] -= size - len(chosen)
            pruned.indices += indices
            pruned.inputs.update(given)
        if not any_masked:
            pruned.width, pruned.padded = max(lengths), min(lengths) < max(lengths)
        if positions and visual.get("position_ids") is None:  # on the CPU, while a GPU still encodes
            pruned.positions = self._full_positions(ids, mask, described, input_ids.device)
        return pruned

    def _has_visuals(self, kwargs: dict) -> bool:
        """Whether `kwargs` bring images or videos, as pixels or (from 5.19 on) encoded already."""
        pixels = [kwargs.get(names[0]) for names in self.visual_inputs.values()]
        return any(v is not None for v in [*pixels, *(kwargs.get("mm_encoder_outputs") or {}).values()])

    def _prompt_tokens(self, ids: Tensor, mask: Tensor | None, device: torch.device) -> list[Tensor]:
        """Per row the embeddings `(m, d)` of its prompt's text within the scope; `ids` and `mask` are on the CPU."""
        config = self.config
        placeholders = [getattr(config, f"{modality}_token_id") for modality in self.visual_inputs]
        is_text = ~torch.isin(ids, torch.tensor([*(config.zspa_special_token_ids or []), *placeholders]))
        if mask is not None:
            is_text &= mask
        is_prompt = prompt_mask(
            ids, is_text, config.zspa_prompt_scope, config.zspa_query_start_ids, config.zspa_query_end_ids
        )
        tokens = self.get_input_embeddings()(ids[is_prompt].to(device, non_blocking=True))
        return list(tokens.split(is_prompt.sum(1).tolist()))

    def _encode(self, modality: str, given: dict[str, Any], outputs) -> list[Tensor] | None:
        """Per image `(n_i, d)`: out of the encoder's `outputs`, which `generate` has from 5.19 on, or from the pixels
        among those `given`; None where there are neither."""
        if outputs is not None:
            return feature_list(outputs)
        if self.visual_inputs[modality][0] not in given:
            return None
        with loaded(self.model):
            return feature_list(getattr(self, f"get_{modality}_features")(**given))

    def _full_positions(self, ids: Tensor, mask: Tensor | None, described: dict, device: torch.device) -> Tensor | None:
        """`full_position_ids`, counted on the CPU and on their way to `device`."""
        counted = self.full_position_ids(ids, torch.ones_like(ids) if mask is None else mask.long(), described)
        if counted is None:
            return None
        if device.type == "cuda":
            counted = counted.pin_memory()  # else the copy may wait for what the GPU does
        return counted.to(device, non_blocking=True)


def _check_prompt(input_ids: Tensor | None, attention_mask: Tensor | None) -> None:
    if input_ids is None:
        raise ValueError("pruning reads the prompt from input_ids: pass them, not inputs_embeds")
    if attention_mask is not None and getattr(attention_mask, "shape", None) != input_ids.shape:
        found = getattr(attention_mask, "shape", type(attention_mask).__name__)
        raise ValueError(
            f"pruning needs an attention_mask of the shape of input_ids, {tuple(input_ids.shape)}, with 1 on "
            f"tokens and 0 on padding, but got {found}"
        )


def _check_settings(call: dict[str, Any]) -> None:
    for name in call:
        if name.startswith("zspa_"):
            meant = meant_by(name) or "zspa_keep_ratio, zspa_core_ratio or visual_token_pruner"
            raise TypeError(f"{name} is no setting of a call: did you mean {meant}?")


def rows_of_images(placeholders: list[int], sizes: list[int], modality: str) -> list[int]:
    """The row of each image: a row's images fill its placeholders, one after the other.

    Args:
        placeholders: how many each row has.
        sizes: the tokens `n_i` of each image, of all rows in order.
        modality: "image" or "video", for the error.

    Raises:
        ValueError: the images do not fill the placeholders of whole rows.
    """
    row_ends, image_ends = list(accumulate(placeholders)), list(accumulate(sizes))
    rows = [bisect_left(row_ends, end) for end in image_ends]
    whole = all(
        r < len(row_ends) and row_ends[r] - end + n <= placeholders[r] for r, end, n in zip(rows, image_ends, sizes)
    )
    if not whole or image_ends[-1] != row_ends[-1]:
        raise ValueError(
            f"the rows of input_ids have {placeholders} {modality} placeholders, but the {modality}s "
            f"have {sizes} tokens: pass the processor's outputs unchanged"
        )
    return rows


def keep_tokens(
    features: list[Tensor], prompts: list[Tensor], pruner: VisualTokenPruner
) -> tuple[list[Tensor], list[Tensor]]:
    """Per image the kept tokens `(l_i, d)` of `(n_i, d)`, and their indices; `prompts` has `(m_i, d)` per image."""
    if len(prompts) != len(features):
        raise ValueError(f"{len(features)} images need as many prompt_tokens, but there are {len(prompts)}")
    indices = choose(features, prompts, pruner)
    return [f[i] for f, i in zip(features, indices)], indices


@torch.no_grad()
def choose(features: list[Tensor], prompts: list[Tensor], pruner: VisualTokenPruner) -> list[Tensor]:
    """Runs `pruner` on detached features and checks that it did what it promised.

    Looking at the indices waits for a GPU. A pruner with an attribute `vouches_for_indices` that is True answers itself
    for their order and their range, and is spared that, as this package's own is.
    """
    vouched = type(pruner) is ZspaPruner or getattr(pruner, "vouches_for_indices", False) is True
    indices = pruner([f.detach() for f in features], [p.detach().to(f.device) for f, p in zip(features, prompts)])
    name = type(pruner).__name__
    if len(indices) != len(features):
        raise ValueError(f"{name} returned {len(indices)} results for {len(features)} images: it must return one each")
    for i, f in zip(indices, features):
        budget = pruner.budget(len(f))
        if not isinstance(i, Tensor) or i.dtype != torch.long:
            raise ValueError(f"{name} returned {i!r} for an image, but must return a tensor of indices of type int64")
        if i.shape != (budget,) or not 1 <= budget <= len(f):
            raise ValueError(
                f"{name} returned {tuple(i.shape)} indices for an image of {len(f)} tokens, but its budget({len(f)}) "
                f"is {budget}: it must return that many, at least 1"
            )
        if not vouched and not bool(((i >= 0) & (i < len(f))).all() and (i.diff() > 0).all()):
            raise ValueError(f"{name} must return ascending indices below {len(f)}, but returned {i}")
    return indices


def _kept_placeholders(sizes: list[int], indices: list[Tensor]) -> Tensor:
    """Bool over all placeholders of the batch in order, True where a visual token is kept."""
    kept = [torch.zeros(n, dtype=torch.bool, device=i.device).scatter(0, i, True) for n, i in zip(sizes, indices)]
    return torch.cat(kept)


class RecordingPruner:
    """A pruner that keeps everything and records what it was given."""

    def __init__(self):
        self.visual_tokens: list[Tensor] = []
        self.prompt_tokens: list[Tensor] = []

    def budget(self, n: int) -> int:
        return n

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        self.visual_tokens += visual_tokens
        self.prompt_tokens += prompt_tokens
        return [torch.arange(len(v), device=v.device) for v in visual_tokens]
