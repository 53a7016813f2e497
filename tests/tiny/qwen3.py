"""Qwen3-VL: deepstack, timestamps between the frames of a video. Qwen3.5: the same without deepstack, and with a
recurrence in three layers of four."""

from tokenizers import Tokenizer

from .qwen import QWEN_SPECIAL
from .recipe import Recipe, byte_level_tokenizer, text_config

_EXPERTS_WIDTH = 24
# What the published one renders, but for the list of tools.
_CONTENT = (
    "{% if message.content is string %}{{ message.content }}{% else %}{% for content in message.content %}"
    "{% if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set images.value = images.value + 1 %}{% if add_vision_id %}Picture {{ images.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content.type == 'video' or 'video' in content %}"
    "{% set videos.value = videos.value + 1 %}{% if add_vision_id %}Video {{ videos.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content.text }}{% endif %}{% endfor %}"
    "{% endif %}"
)
QWEN3_VL_TEMPLATE = (
    "{% set images = namespace(value=0) %}{% set videos = namespace(value=0) %}{% for message in messages %}"
    "{% if message.role == 'tool' %}{% if loop.first or loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}\n"
    f"<tool_response>\n{_CONTENT}\n</tool_response>"
    "{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% elif message.role != 'system' or loop.first %}<|im_start|>{{ message.role }}\n"
    f"{_CONTENT}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# A question is trimmed, an answer thought about; images must not stand in a system prompt.
QWEN3_5_TEMPLATE = (
    "{% set images = namespace(value=0) %}{% set videos = namespace(value=0) %}{% macro render(message) %}"
    f"{_CONTENT}"
    "{% endmacro %}{% for message in messages %}{% set content = render(message)|trim %}"
    "{% if message.role == 'tool' %}{% if loop.first or loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}\n"
    "<tool_response>\n{{ content }}\n</tool_response>"
    "{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% elif message.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}"
    "{% else %}<|im_start|>{{ message.role }}\n{{ content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)


def _text_config(tokenizer: Tokenizer, model_type: str) -> dict:
    token = tokenizer.token_to_id
    config = text_config(tokenizer, model_type) | {
        "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"), "hidden_act": "silu", "num_hidden_layers": 3, "rms_norm_eps": 1e-06,
        "rope_theta": 5000000, "use_cache": True,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
    }  # fmt: skip
    del config["architectures"]
    return config


def _config(tokenizer: Tokenizer, stock: str, model_type: str, text: dict, vision: dict) -> dict:
    token = tokenizer.token_to_id
    return {
        "architectures": [stock], "model_type": model_type, "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"), "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"), "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0", "text_config": text,
        "vision_config": {
            "depth": 3, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 32, "in_channels": 3,
            "initializer_range": 0.02, "intermediate_size": 48, "model_type": model_type, "num_heads": 2,
            "num_position_embeddings": 64, "out_hidden_size": 64, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2, **vision,
        },
    }  # fmt: skip


def _qwen3_vl_config(tokenizer: Tokenizer) -> dict:
    text = _text_config(tokenizer, "qwen3_vl_text")
    deepstack = {"deepstack_visual_indexes": [0, 1]}
    return _config(tokenizer, "Qwen3VLForConditionalGeneration", "qwen3_vl", text, deepstack)


def _qwen3_5_text_config(tokenizer: Tokenizer, model_type: str) -> dict:
    token = tokenizer.token_to_id
    config = text_config(tokenizer, model_type) | {
        "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True,
        "eos_token_id": token("<|endoftext|>"), "full_attention_interval": 4, "hidden_act": "silu",
        "layer_types": ["linear_attention"] * 3 + ["full_attention"], "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_value_head_dim": 16, "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False, "num_hidden_layers": 4, "rms_norm_eps": 1e-06, "use_cache": True,
        "rope_parameters": {
            "mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
        },
    }  # fmt: skip
    return {name: value for name, value in config.items() if name not in ("architectures", "rope_theta")}


def _qwen3_5_config(tokenizer: Tokenizer) -> dict:
    text = _qwen3_5_text_config(tokenizer, "qwen3_5_text")
    no_deepstack: dict = {"deepstack_visual_indexes": []}
    return _config(tokenizer, "Qwen3_5ForConditionalGeneration", "qwen3_5", text, no_deepstack)


def _qwen3_5_moe_config(tokenizer: Tokenizer) -> dict:
    text = _qwen3_5_text_config(tokenizer, "qwen3_5_moe_text") | {
        "moe_intermediate_size": _EXPERTS_WIDTH, "num_experts": 4, "num_experts_per_tok": 2,
        "output_router_logits": False, "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 24,
    }  # fmt: skip
    del text["intermediate_size"]
    no_deepstack: dict = {"deepstack_visual_indexes": []}
    return _config(tokenizer, "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", text, no_deepstack)


def _with_a_draft_layer(state: dict) -> dict:
    """With weights of the layer that predicts a second token, which transformers does not load."""
    return state | {"mtp.fc.weight": state["lm_head.weight"][:64].repeat(1, 2)}


def _qwen3_vl_moe_config(tokenizer: Tokenizer) -> dict:
    text = _text_config(tokenizer, "qwen3_vl_moe_text") | {
        "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": _EXPERTS_WIDTH,
        "norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2,
    }  # fmt: skip
    deepstack = {"deepstack_visual_indexes": [0, 1]}
    return _config(tokenizer, "Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", text, deepstack)


def _experts_as_on_the_hub(state: dict) -> dict:
    """The weights of experts as `(experts, in, out)`; transformers 5 has them as `(experts, out, in)`."""

    def turned(name, weights):
        incoming = _EXPERTS_WIDTH if name.endswith("experts.down_proj") else 64
        return weights if weights.shape[1] == incoming else weights.transpose(1, 2).contiguous()

    return {name: turned(name, tensor) if ".mlp.experts." in name else tensor for name, tensor in state.items()}


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    common = {
        "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "processor_class": "Qwen3VLProcessor",
    }  # fmt: skip
    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 64}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": QWEN_SPECIAL[1:],
        },
        "preprocessor_config.json": common | {"size": size, "image_processor_type": "Qwen2VLImageProcessorFast"},
        "video_preprocessor_config.json": common | {"size": size, "video_processor_type": "Qwen3VLVideoProcessor"},
    }  # fmt: skip


def _recipe(family: str, stock: str, config, template: str = QWEN3_VL_TEMPLATE, **options) -> Recipe:
    return Recipe(
        family, stock, lambda: byte_level_tokenizer(QWEN_SPECIAL), config, _processor, template, "<|im_start|>",
        "<|im_end|>", "<|endoftext|>", video=True, **options,
    )  # fmt: skip


QWEN3_VL = _recipe("qwen3_vl", "Qwen3VLForConditionalGeneration", _qwen3_vl_config)
QWEN3_VL_MOE = _recipe(
    "qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", _qwen3_vl_moe_config, hub_weights=_experts_as_on_the_hub,
    stock_fails=((5, 0),),
)  # fmt: skip
QWEN3_5 = _recipe(
    "qwen3_5", "Qwen3_5ForConditionalGeneration", _qwen3_5_config, QWEN3_5_TEMPLATE, hub_weights=_with_a_draft_layer,
    since=(5, 16), exact_when_masked=False,
)  # fmt: skip
QWEN3_5_MOE = _recipe(
    "qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", _qwen3_5_moe_config, QWEN3_5_TEMPLATE,
    hub_weights=_with_a_draft_layer, since=(5, 16), exact_when_masked=False,
)  # fmt: skip
