"""Pruning in `forward`, of the generating model and of the base model inside it.

What the pruned model computes is what the stock model computes without the dropped columns, the others at the positions
of the full sequence (or, for compact positions, renumbered).
"""

import inspect
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from .zspa_cache import forget_if_empty, pruned_prompt_of, remember
from .zspa_calling import RecordingPruner
from .zspa_compat import cache_of, cached_length, find_cache, register_key_mapping, turn_into
from .zspa_config import CALL_ARGUMENTS, FIELDS, check_fields, check_settings, fields_of, take_call
from .zspa_encoder import answered, encoder_arguments, is_handed_over
from .zspa_packing import ZspaPackingMixin
from .zspa_prefill import PackedRows


def pruned(stock_forward):
    """A stock class's `forward`, by way of our `pruned_forward`, under the stock signature."""

    @wraps(stock_forward)
    def forward(self, *args, **kwargs):
        if args:
            bound = inspect.signature(stock_forward).bind_partial(self, *args).arguments
            kwargs |= {name: value for name, value in bound.items() if name != "self"}
        return self.pruned_forward(partial(stock_forward, self), kwargs)

    return forward


def check_prepared(call: dict[str, Any]) -> None:
    """Raises `ValueError` where a generation loop hands what `generate` has selected to `forward` itself."""
    if call.get("zspa_prompt") is not None:
        raise ValueError(
            "this generation loop calls the model without model.prepare_inputs_for_generation, which puts the images "
            "in: call that first, as the loops of transformers do, or generate with zspa_keep_ratio=1.0"
        )


def wrap_stock_methods(cls: type, mixin: type, wrap) -> None:
    """Gives `cls`, whose bases are `mixin` and a stock class, that one's `forward` through `pruned` and its
    `get_<modality>_features` through `wrap`."""
    if cls.__bases__[0] is not mixin:  # somebody's own class on top of one of these
        return
    stock = cls.__bases__[-1]
    cls.forward = pruned(stock.forward)
    if hasattr(stock, "get_image_features"):
        cls.get_image_features = wrap(stock.get_image_features)
    if hasattr(stock, "get_video_features"):
        cls.get_video_features = wrap(stock.get_video_features)
    register_key_mapping(cls, stock)


class ZspaBaseModelMixin(ZspaPackingMixin):
    """The base model, which trainers and embedders call past the generating one. Called with images it prunes, and its
    `last_hidden_state` has every input position: a dropped one repeats the nearest kept one before it, or the first one
    where there is none."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        wrap_stock_methods(cls, ZspaBaseModelMixin, answered)

    def __init__(self, *args, **kwargs):  # of one that is loaded by itself
        super().__init__(*args, **kwargs)
        self.visual_inputs = encoder_arguments(self)

    @property
    def _base(self):
        return self

    def pruned_forward(self, stock_forward, kwargs: dict[str, Any]):
        if kwargs.pop("zspa_packed", False) or is_handed_over(kwargs):  # in terms of the cache already
            return stock_forward(**kwargs)
        check_prepared(kwargs)
        call = take_call(kwargs)
        cache = find_cache(kwargs)
        forget_if_empty(cache)
        if not self._has_visuals(kwargs):
            return stock_forward(**self._continued(cache, kwargs))
        if pruned_prompt_of(cache) is not None:
            raise ValueError(
                "the cache holds a pruned prompt, and no image can follow: pass the whole conversation without a cache"
            )
        check_settings(kwargs)
        pruner = self.pruner_for_call(**call)
        if pruner is None:
            return stock_forward(**kwargs)
        packed = self.pack_call(pruner, kwargs)
        outputs = stock_forward(**packed.inputs | {"return_dict": True})
        outputs.last_hidden_state = packed.rows.spread(outputs.last_hidden_state)
        remember(cache_of(outputs), packed.prompt)
        return outputs if self._returns_dict(kwargs) else outputs.to_tuple()

    def _continued(self, cache, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a step after a pruned prompt in terms of its cache. The caller counts in columns; positions are
        those that follow the full prompt, whatever is given."""
        mask, prompt = kwargs.get("attention_mask"), pruned_prompt_of(cache)
        if prompt is None:
            return kwargs
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        batch, count = tokens.shape[:2]
        cached = cached_length(cache)
        total = cached + prompt.dropped + count
        if mask is None:
            mask = prompt.mask.new_ones(batch, total)
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        if shape == (batch, cached + count):
            mask = torch.cat([mask.new_ones(batch, prompt.columns), mask[:, prompt.mask.shape[1] :]], dim=1)
        elif shape != (batch, total):
            raise ValueError(
                f"attention_mask is {shape}, but must be {(batch, total)}, with a column for each token of the full "
                "sequence so far"
            )
        positions = prompt.later_positions(mask, batch, total, count) + self.first_position
        kwargs = kwargs | {"attention_mask": prompt.pack_mask(mask), "position_ids": positions}
        if kwargs.get("cache_position") is not None:
            kwargs["cache_position"] = torch.arange(cached, cached + count, device=mask.device)
        return kwargs


class ZspaForwardMixin(ZspaPackingMixin):
    """The generating model: what it can be asked about its selection, and its `forward`.

    Attributes:
        base_class: the class of the base model inside it.
    """

    base_class: type

    @property
    def _base(self):
        return self.model

    def __init__(self, config, *args, **kwargs):
        for name, default in FIELDS.items():  # a stock config, loaded without trust, may lack them
            if not hasattr(config, name):
                setattr(config, name, default)
        check_fields(fields_of(config), self.config_class.allowed_position_ids)
        super().__init__(config, *args, **kwargs)
        turn_into(self._base, self.base_class)
        self.visual_inputs = self._base.visual_inputs = encoder_arguments(self._base)

    @torch.no_grad()
    def select_visual_tokens(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **visual,
    ) -> list[Tensor]:
        """What `generate` keeps for the same inputs, and the same settings of a call: per image, then per video,
        ascending indices `(l_i,)`, int64."""
        pruner = self.pruner_for_call(**take_call(visual)) or RecordingPruner()
        return self.prune_visuals(input_ids, attention_mask, pruner, visual).indices

    @torch.no_grad()
    def visual_and_prompt_tokens(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **visual
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What a pruner is given for the same inputs: per image `(n_i, d)` visual and `(m_i, d)` prompt tokens."""
        recording = RecordingPruner()
        self.prune_visuals(input_ids, attention_mask, recording, visual)
        return recording.visual_tokens, recording.prompt_tokens

    def pruned_forward(self, stock_forward, kwargs: dict[str, Any]):
        """`forward`. With images or videos it runs on the pruned sequence.

        The logits keep every input position: a dropped one repeats the logits of the nearest kept one before it, and
        `logits_to_keep` means input positions. The loss is that of the kept sequence; given `num_items_in_batch`, which
        counts labels of full sequences, it is the mean over the kept labels, times the labels of this batch's full
        sequences, divided by it. `hidden_states`, `attentions` and the cache have the pruned length. The arguments of
        `generate` that choose the pruner are taken here too.

        Args:
            stock_forward: the bound `forward` of the stock class.
        """
        check_prepared(kwargs)
        if kwargs.get("zspa_packed") or not self._has_visuals(kwargs):
            return stock_forward(**kwargs)
        check_settings({name: value for name, value in kwargs.items() if name not in CALL_ARGUMENTS})
        pruner = self.pruner_for_call(**take_call(dict(kwargs)))
        if pruner is None:
            return stock_forward(**kwargs)
        packed = self.pack_call(pruner, kwargs)
        rows, labels = packed.rows, packed_labels(packed.rows, kwargs)
        wanted, first = wanted_places(rows, kwargs.get("logits_to_keep", 0))
        length = rows.mask.shape[1]
        last = length if labels else length - first
        outputs = stock_forward(**packed.inputs | labels | {"logits_to_keep": last, "return_dict": True})
        if outputs.logits is not None:  # a fused loss may leave them out
            wanted = wanted.to(outputs.logits.device)  # of a model on several GPUs the last one
            wanted = wanted - (length - outputs.logits.shape[1])  # some have all, whatever is asked for
            outputs.logits = outputs.logits.gather(1, wanted[..., None].expand(-1, -1, outputs.logits.shape[-1]))
        remember(cache_of(outputs), packed.prompt)
        return outputs if self._returns_dict(kwargs) else outputs.to_tuple()


def wanted_places(rows: PackedRows, logits_to_keep: int | Tensor) -> tuple[Tensor, int]:
    """The packed places `(batch, w)` whose logits are asked for, and one that none of them is before."""
    places = rows.places()
    if not isinstance(logits_to_keep, int):
        wanted = places[:, logits_to_keep.to(places.device)]
        return wanted, int(wanted.min())
    # The last columns stand for at most as many of the last places.
    return places[:, -logits_to_keep:], max(0, rows.mask.shape[1] - logits_to_keep) if logits_to_keep else 0


def packed_labels(rows: PackedRows, call: dict[str, Any]) -> dict[str, Any]:
    """What a loss is computed from, of a call's full sequences, for the kept ones: `labels`, `shift_labels` and
    `num_items_in_batch`, as far as the call has them."""
    labels, shifted, items = (call.get(name) for name in ("labels", "shift_labels", "num_items_in_batch"))
    if labels is None:
        return {}
    if shifted is not None:
        labels = torch.nn.functional.pad(shifted, (1, 0), value=-100)[:, :-1]
    found = {"labels": rows.take_labels(labels)}
    if shifted is not None:
        found["shift_labels"] = torch.nn.functional.pad(found["labels"][:, 1:], (0, 1), value=-100)
    if items is not None:
        full, kept = ((of[:, 1:] != -100).sum() for of in (labels, found["labels"]))
        found["num_items_in_batch"] = torch.where(kept > 0, items * kept / full, items)
    return found
