"""A pruned prompt as a shorter input of the stock class: packed ids, the encoder's output with the kept rows only, and
every per-column argument gathered alike, at the positions of the full prompt."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .zspa_cache import PrunedPrompt
from .zspa_compat import COLUMN_ARGUMENTS, cached_length, find_cache, named_arguments, to_device
from .zspa_config import CALL_ARGUMENTS
from .zspa_encoder import hand_over
from .zspa_prefill import PackedRows, PrunedVisuals
from .zspa_selection import VisualTokenPruner
from .zspa_visuals import ZspaVisualsMixin


@dataclass
class Packed:
    """A pruned prompt, ready for the stock class.

    Attributes:
        inputs: its arguments.
        visuals: those among them that hand over the kept visual tokens.
        rows: where the columns of the full prompt went.
        prompt: what the cache must remember.
    """

    inputs: dict[str, Any]
    visuals: dict[str, Any]
    rows: PackedRows
    prompt: PrunedPrompt


class ZspaPackingMixin(ZspaVisualsMixin):
    """Packs the kept columns of a prompt, and of a call.

    Attributes:
        first_position: what the stock class's `forward` counts positions from, where they are one row. `generate`
            counts them from 0, as is done here too, and the stock class adds it.
        type_of_new_tokens: the token type of those that follow the prompt.
    """

    first_position = 0
    type_of_new_tokens = 0

    def pack_call(self, pruner: VisualTokenPruner, call: dict[str, Any]) -> Packed:
        """A direct call of `forward` on its pruned prompt.

        Raises:
            ValueError: images after a filled cache, `inputs_embeds` with images, or several samples in a row.
        """
        if cached_length(find_cache(call)):
            raise ValueError("images after a filled cache cannot be pruned: pass the whole prompt, or keep ratio 1.0")
        call = {name: value for name, value in call.items() if name not in CALL_ARGUMENTS}
        input_ids: Tensor = call.get("input_ids")  # type: ignore[assignment]  # checked by prune_visuals
        mask, positions = call.get("attention_mask"), call.get("position_ids")
        pruned = self.prune_visuals(input_ids, mask, pruner, call)
        if positions is None:
            positions = self._rope_positions(pruned.described, input_ids.device)
        if positions is None:  # as stock text models count, over padding too
            positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        elif self._base.first_position:
            positions = positions - self._base.first_position
        packed = self.pack(input_ids, mask, positions, pruned, call)
        packed.inputs["position_ids"] = packed.inputs["position_ids"] + self._base.first_position
        rest = self._without_pixels({name: v for name, v in call.items() if name != "cache_position"})
        packed.inputs = rest | packed.inputs | packed.visuals
        return packed

    def pack(self, input_ids, mask, positions, pruned: PrunedVisuals, columns: dict[str, Any]) -> Packed:
        """Packs the kept columns of a prompt of `S` columns, and `t` that follow it.

        Args:
            input_ids: `(batch · copies, S + t)`, each row of `pruned` `copies` times in a row, as for beams.
            mask: `(batch · copies, S + t)`, or None where nothing is padding.
            positions: of the full prompt, `(batch · copies, S)` or `(rows, batch · copies, S)`.
            columns: other arguments, of which those with an entry for each column are packed alike.
        """
        size, batch = pruned.keep.shape[1], len(input_ids)
        later, copies = input_ids.shape[1] - size, batch // len(pruned.keep)
        real = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()
        keep = torch.nn.functional.pad(pruned.keep.repeat_interleave(copies, 0), (0, later), value=True) & real
        rope_rows = 3 if positions.ndim == 3 else None
        guard = int(rope_rows is None and self._is_flash())
        rows = PackedRows.from_keep(keep, pruned.width + later + guard)
        packed_mask = rows.mask[:, : rows.mask.shape[1] - later]
        prompt = PrunedPrompt(
            size, packed_mask, packed_mask.sum(1, keepdim=True), rope_rows, pruned.tail,
            padded=pruned.padded or bool(guard) or (mask is not None and pruned.described["attention_mask"] is None),
        )  # fmt: skip
        if self.config.zspa_position_ids == "compact":
            positions = (rows.mask.cumsum(1) - 1).clamp_min(0)
        else:
            if rope_rows:  # the row in front of four only tells packed samples apart
                positions = positions[-rope_rows:]
            positions = positions.expand(*positions.shape[:-2], batch, -1)
            last = positions.masked_fill(~real[:, :size], -1).amax(-1, keepdim=True)
            prompt.next_position = (last.amax(0) if rope_rows else last) + 1
            if later:
                behind = prompt.later_positions(mask, batch, size + later, later)
                positions = torch.cat([positions, behind], dim=-1)
            positions = rows.take(positions)
        ids = rows.take(input_ids)
        if prompt.padded:  # a dropped placeholder may stand where there is padding, and would be counted
            ids = ids.masked_fill((rows.mask == 0) & self._is_placeholder(ids), self._text_id())
        inputs = {"input_ids": ids, "attention_mask": rows.mask, "position_ids": positions}
        for name in COLUMN_ARGUMENTS:
            if columns.get(name) is not None:
                full = torch.nn.functional.pad(columns[name][:, :size], (0, later), value=self._base.type_of_new_tokens)
                inputs[name] = rows.take(full) * rows.mask.to(full.dtype)
        return Packed(inputs, hand_over(self._base, pruned.repeated(copies)), rows, prompt)

    def _rope_positions(self, described: dict[str, Any], device: torch.device) -> Tensor | None:
        """Positions `(3, batch, S)` of the full prompt by the base model's own function, counted on the CPU; None where
        it counts along the rows."""
        rope_index = getattr(self._base, "get_rope_index", None)
        if rope_index is None:
            return None
        given = named_arguments(rope_index, {"mm_token_type_ids": None} | described)
        if given.get("mm_token_type_ids", given) is None:
            return None
        if given["attention_mask"] is None:
            given["attention_mask"] = torch.ones_like(given["input_ids"])
        return to_device(rope_index(**given)[0], device)

    def _text_id(self) -> int:
        placeholders = [self._base.placeholder_id(modality) for modality in self.visual_inputs]
        return next(token for token in range(len(placeholders) + 1) if token not in placeholders)

    def _is_flash(self) -> bool:
        """Whether gaps in one row of positions would count as packed samples, unless the mask has a 0 in it."""
        return "flash" in (self.config.get_text_config()._attn_implementation or "")
