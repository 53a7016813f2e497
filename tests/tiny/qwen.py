"""Qwen2-VL and Qwen2.5-VL."""

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config

QWEN_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "<|im_end|>\n{% else %}{% for content in message['content'] %}{% if content['type'] == 'image'"
    " or 'image' in content or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip


def _config(tokenizer: Tokenizer, stock: str, model_type: str, vision: dict) -> dict:
    token = tokenizer.token_to_id
    return text_config(tokenizer, model_type) | {
        "architectures": [stock], "model_type": model_type, "attention_dropout": 0.0,
        "bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>"), "hidden_act": "silu",
        "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>"),
        "vision_token_id": token("<|vision_pad|>"), "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"), "rope_theta": 1000000.0, "use_sliding_window": False,
        "max_window_layers": 2, "sliding_window": 32768, "tie_word_embeddings": False, "use_cache": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}, "transformers_version": "4.41.2",
        "vision_config": {
            "depth": 2, "in_chans": 3, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "temporal_patch_size": 2, **vision,
        },
    }  # fmt: skip


def _qwen2_vl_config(tokenizer: Tokenizer) -> dict:
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return _config(tokenizer, "Qwen2VLForConditionalGeneration", "qwen2_vl", vision)


def _qwen2_5_vl_config(tokenizer: Tokenizer) -> dict:
    vision = {
        "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64, "window_size": 56,
        "fullatt_block_indexes": [1], "tokens_per_second": 2, "model_type": "qwen2_5_vl",
    }  # fmt: skip
    return _config(tokenizer, "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", vision)


def _processor(name: str) -> dict[str, dict]:
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": QWEN_SPECIAL[1:], "processor_class": name,
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | {
            "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 28 * 28, "max_pixels": 28 * 28 * 64,
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "processor_class": name,
        },
    }  # fmt: skip


def _hub_weights(state: dict) -> dict:
    renamed = {name.replace("model.visual.", "visual."): tensor for name, tensor in state.items()}
    return {name.replace("model.language_model.", "model."): tensor for name, tensor in renamed.items()}


def _recipe(family: str, stock: str, config, processor: str) -> Recipe:
    return Recipe(
        family, stock, lambda: byte_level_tokenizer(QWEN_SPECIAL), config, lambda tokenizer: _processor(processor),
        QWEN_TEMPLATE, "<|im_start|>", "<|im_end|>", "<|endoftext|>", _hub_weights, video=True,
    )  # fmt: skip


QWEN2_VL = _recipe("qwen2_vl", "Qwen2VLForConditionalGeneration", _qwen2_vl_config, "Qwen2VLProcessor")
QWEN2_5_VL = _recipe("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", _qwen2_5_vl_config, "Qwen2_5_VLProcessor")
