"""Many questions behind one image: the packed input, and attention that the losses can read.

Each question attends to the image and to itself (a block-diagonal mask) and has the positions it
would have alone, so one pass trains on all of them as if each had come by itself.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from .families import Family

ATTENTION = "hf_zspa_embedded_training"


class RecordedAttention:
    """Scaled dot-product attention in float32 that remembers queries and keys of chosen layers.

    Float32 because bfloat16 attention is several times slower on a CPU. `recorded` maps the index
    of a language model layer to (query, key), each (batch, heads, length, head size), after rotary
    embedding. `context` is set before each pass over packed questions.
    """

    def __init__(self, layers: tuple[int, ...] = ()):
        self.layers = layers
        self.context = 0  # tokens before the questions
        self.recorded: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask, **kwargs):
        layer = getattr(module, "layer_idx", None)
        query32, key32, value32 = query.float(), key.float(), value.float()
        if layer in self.layers:
            self.recorded[layer] = query32, key32
        if attention_mask is None:
            mixed = scaled_dot_product_attention(query32, key32, value32)
        else:  # what stands before the questions sees none of them
            first, rest = slice(self.context), slice(self.context, None)
            before, key_before, value_before = (states[:, :, first] for states in (query32, key32, value32))
            parts = [
                scaled_dot_product_attention(before, key_before, value_before, is_causal=True),
                scaled_dot_product_attention(query32[:, :, rest], key32, value32, attn_mask=attention_mask[:, :, rest]),
            ]
            mixed = torch.cat(parts, 2)
        return mixed.transpose(1, 2).to(query.dtype), None

    def install(self, model: PreTrainedModel) -> None:
        """Make every attention layer of the model use this function."""
        AttentionInterface.register(ATTENTION, self)
        AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        for config in (model.config, model.config.text_config, model.config.vision_config):
            config._attn_implementation = ATTENTION


def packed_inputs(
    family: Family, model: PreTrainedModel, visual: Tensor, tokens: Tensor, grid: tuple[int, int]
) -> dict[str, Tensor]:
    """Inputs of the language model for visual (b, n, d) of a grid of cells and tokens (b, questions, length).

    The sequence is what stands before the question, then the questions one after the other.
    """
    batch, questions, length = tokens.shape
    embed = model.model.language_model.embed_tokens
    before, after = (
        embed(torch.tensor(family.vocabulary.encode_tokens(words), dtype=torch.long)).expand(batch, -1, -1)
        for words in (family.before, family.after)
    )
    embeddings = torch.cat([before, visual, after, embed(tokens.flatten(1))], 1)
    positions, start = family.positions(grid)
    texts = (start + torch.arange(length)).repeat(questions).expand(len(positions), -1)
    positions = torch.cat([positions, texts], 1)[:, None].expand(-1, batch, -1)
    context = family.context_length(grid)
    total = context + questions * length
    visible = torch.ones(total, total, dtype=torch.bool).tril()
    block = torch.arange(questions).repeat_interleave(length)
    visible[context:, context:] &= block[:, None] == block[None]
    mask = torch.zeros(1, 1, total, total).masked_fill(~visible, torch.finfo(torch.float32).min)
    return {
        "inputs_embeds": embeddings,
        "attention_mask": mask.expand(batch, 1, total, total),
        "position_ids": positions[0] if len(positions) == 1 else positions,
    }
