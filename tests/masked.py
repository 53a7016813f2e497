"""The stock model as an oracle of training: it sees every column, and masks out of attention what a pruned one drops.

Whoever calls it, a trainer or a fused loss, finds what the stock class gives, except for dropped columns: their hidden
states repeat those of the nearest kept one before, and their labels do not count.
"""

import types

import oracle
import torch


def mask_dropped(stock: oracle.Stock, keep: int, core: int) -> torch.nn.Module:
    """The model of `stock`, changed in place to attend to no column that is dropped at `keep` and `core` percent.

    It has an attribute `widths`: for each call of the inner model, how many columns its fullest row keeps.
    """
    model, inner = stock.model, stock.model.model
    whole, states_of = model.forward, inner.forward
    model.widths = []

    def kept_columns(inputs) -> torch.Tensor:
        with torch.no_grad():
            kept = stock.keep(inputs, keep, core)[0] & inputs["attention_mask"].bool()
        torch.clear_autocast_cache()  # weights that were cast without a gradient would be used again where one is due
        return kept

    def inner_forward(self, input_ids, attention_mask, **inputs):
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        kept, positions = kept_columns(given), stock.positions(given, input_ids, attention_mask)
        model.widths.append(int(kept.sum(1).max()))
        inputs = {k: v for k, v in inputs.items() if k not in ("position_ids", "mm_token_type_ids")}
        outputs = states_of(input_ids, attention_mask=kept.long(), position_ids=positions, **inputs)
        columns = torch.arange(kept.shape[1])
        nearest = columns.where(kept, -1).cummax(1).values.clamp_min(0)
        states = outputs.last_hidden_state
        outputs.last_hidden_state = states.gather(1, nearest[..., None].expand_as(states))
        return outputs

    def forward(self, *args, labels=None, num_items_in_batch=None, **inputs):
        if labels is None:
            return whole(*args, **inputs)
        kept = kept_columns(inputs)
        outputs = whole(*args, labels=labels.masked_fill(~kept, -100), **inputs)
        if num_items_in_batch is not None:
            outputs.loss = outputs.loss * (labels[:, 1:] != -100).sum() / num_items_in_batch
        return outputs

    inner.forward = types.MethodType(inner_forward, inner)
    model.forward = types.MethodType(forward, model)
    return model
