"""Kimi K2.5: a text model of DeepSeek-V3's kind; what the processor pads an image with has visual tokens, too.

The weights are named as on the Hub. The config is one that transformers has written: the publisher's own names code of
its own in `auto_map`, with which `convert` refuses it.
"""

import re

import torch
from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, a_weight_per_expert, byte_level_tokenizer, text_config

KIMI_SPECIAL = [
    "[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>",
    "<|media_begin|>", "<|media_content|>", "<|media_end|>", "<|media_pad|>", "[UNK]", "[PAD]",
    "<|kimi_k25_video_placeholder|>",
]  # fmt: skip
# What the published one renders, but for tools and for what an answer was thought about.
KIMI_TEMPLATE = (
    "{% for message in messages %}{% set name = message.get('name') or message.role %}"
    "{% if message.role in ('user', 'assistant') %}<|im_{{ message.role }}|>{% else %}<|im_system|>{% endif %}"
    "{{ name }}<|im_middle|>{% if message.role == 'assistant' %}<think></think>{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for content in message.content %}"
    "{% if content.type in ('image', 'image_url') %}<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n"
    "{% elif content.type in ('video', 'video_url') %}<|kimi_k25_video_placeholder|>\n"
    "{% else %}{{ content.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>"
    "{% if thinking is defined and thinking is false %}<think></think>{% else %}<think>{% endif %}{% endif %}"
)
_HEADS = 2


def _config(tokenizer: Tokenizer) -> dict:
    token = tokenizer.token_to_id
    text = text_config(tokenizer, "kimi_k2") | {
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "bos_token_id": token("[BOS]"),
        "eos_token_id": token("[EOS]"), "pad_token_id": token("[PAD]"), "first_k_dense_replace": 1,
        "hidden_act": "silu", "kv_lora_rank": 16, "moe_intermediate_size": 24, "n_group": 1,
        "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "num_nextn_predict_layers": 0, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
        "routed_scaling_factor": 2.827, "scoring_func": "sigmoid", "tie_word_embeddings": False, "topk_group": 1,
        "topk_method": "noaux_tc", "use_cache": True, "v_head_dim": 24, "rope_theta": 50000.0,
        "vocab_size": token("<|kimi_k25_video_placeholder|>"),  # which has no embedding
        "rope_scaling": {
            "type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
        },
    }  # fmt: skip
    del text["head_dim"]
    return {
        "architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25", "tie_word_embeddings": False,
        "image_token_id": token("<|media_pad|>"), "video_token_id": token("<|kimi_k25_video_placeholder|>"),
        "vision_start_token_id": token("<|media_begin|>"), "vision_end_token_id": token("<|media_end|>"),
        "bos_token_id": token("[BOS]"), "eos_token_id": token("[EOS]"), "pad_token_id": token("[PAD]"),
        "projection_hidden_size": 32, "projection_layer_norm_eps": 1e-05, "torch_dtype": "float32",
        "transformers_version": "5.16.0", "text_config": text,
        "vision_config": {
            "model_type": "kimi_k25_vision", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": _HEADS, "patch_size": 14, "merge_kernel_size": [2, 2], "pos_emb_height": 8,
            "pos_emb_width": 8, "pos_emb_time": 4, "hidden_act": "gelu_pytorch_tanh",
        },
    }  # fmt: skip


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    own = {"processor_class": "Kimi_K25Processor"}
    patches = own | IMAGE_PROCESSOR | {
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 14, "merge_size": 2, "max_patches": 256,
        "size": {"max_height": 32, "max_width": 32},
    }  # fmt: skip
    return {
        "tokenizer_config.json": own | {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "[BOS]", "eos_token": "[EOS]",
            "pad_token": "[PAD]", "unk_token": "[UNK]", "additional_special_tokens": KIMI_SPECIAL[2:11],
        },
        "preprocessor_config.json": patches | {"image_processor_type": "Kimi_K25ImageProcessor"},
        "video_preprocessor_config.json": patches | {  # a test's frames have no times to sample by
            "video_processor_type": "Kimi_K25VideoProcessor", "temporal_patch_size": 4, "do_sample_frames": False,
        },
    }  # fmt: skip


_ON_THE_HUB = (
    (r"^model\.language_model\.", "language_model.model."), (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.vision_tower\.(layers|final_layernorm)\.", r"vision_tower.encoder.\1."), (r"^model\.", ""),
    (r"\.encoder\.layers\.", ".encoder.blocks."), (r"(blocks\.\d+)\.norm1\.", r"\1.norm0."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.norm1."), (r"(blocks\.\d+\.mlp)\.fc1\.", r"\1.fc0."),
    (r"(blocks\.\d+\.mlp)\.fc2\.", r"\1.fc1."), (r"(blocks\.\d+)\.attn\.proj\.", r"\1.wo."),
    (r"\.position_embeddings$", ".weight"), (r"^mm_projector\.in_proj\.", "mm_projector.proj.0."),
    (r"^mm_projector\.out_proj\.", "mm_projector.proj.2."),
)  # fmt: skip


def _hub_weights(state: dict) -> dict:
    """Queries, keys and values in one, the first two with the pairs of a rotation side by side; a weight per expert."""
    weights: dict = {}
    for name, tensor in a_weight_per_expert(state).items():
        for pattern, new in _ON_THE_HUB:
            name = re.sub(pattern, new, name)
        stem, _, part = name.rpartition(".attn.")
        if stem.startswith("vision_tower."):
            kind, fused = part[0], f"{stem}.wqkv.{part.split('.')[-1]}"
            if kind != "v":
                halves = tensor.unflatten(0, (_HEADS, 2, -1))
                tensor = halves.transpose(1, 2).reshape(tensor.shape)
            weights.setdefault(fused, {})[kind] = tensor
        else:
            weights[name] = tensor
    return {name: torch.cat([w[k] for k in "qkv"]) if isinstance(w, dict) else w for name, w in weights.items()}


KIMI_K25 = Recipe(
    "kimi_k25", "Kimi_K25ForConditionalGeneration", lambda: byte_level_tokenizer(KIMI_SPECIAL), _config, _processor,
    KIMI_TEMPLATE, "[BOS]", "<|im_end|>", "[PAD]", _hub_weights, since=(5, 16), video=True,
    video_since=(5, 24),
)  # fmt: skip
