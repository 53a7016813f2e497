"""LFM2-VL, whose text model has short convolutions, and whose images keep their shape where they are small."""

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config, tied_siglip_weights

LFM2_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image>{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = [
    "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|image_start|>",
    "<|image_end|>", "<|img_thumbnail|>",
    *(f"<|img_row_{row}_col_{column}|>" for row in range(1, 7) for column in range(1, 7)),
]  # fmt: skip
TILE = 56
_SPLITTING = {
    "do_image_splitting": True, "downsample_factor": 2, "encoder_patch_size": 7, "max_image_tokens": 16,
    "max_num_patches": 64, "max_pixels_tolerance": 2.0, "max_tiles": 6, "min_image_tokens": 4, "min_tiles": 2,
    "tile_size": TILE, "use_thumbnail": True,
}  # fmt: skip


def _config(tokenizer: Tokenizer) -> dict:
    text = text_config(tokenizer, "lfm2") | {
        "block_auto_adjust_ff_dim": False, "block_ff_dim": 128, "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 8, "conv_L_cache": 3, "conv_bias": False, "norm_eps": 1e-05, "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"], "rope_theta": 1000000.0,
        "tie_embedding": True, "bos_token_id": tokenizer.token_to_id("<|startoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"), "pad_token_id": tokenizer.token_to_id("<|pad|>"),
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "model_type": "siglip2_vision_model", "num_attention_heads": 2,
        "num_channels": 3, "num_hidden_layers": 2, "num_patches": 64, "patch_size": 7, "vision_use_head": False,
    }  # fmt: skip
    return _SPLITTING | {
        "architectures": ["Lfm2VlForConditionalGeneration"], "model_type": "lfm2_vl",
        "image_token_id": tokenizer.token_to_id("<image>"), "projector_bias": True, "projector_hidden_act": "gelu",
        "projector_hidden_size": 64, "projector_use_layernorm": True, "text_config": text, "vision_config": vision,
        "torch_dtype": "float32", "transformers_version": "4.57.0.dev0",
    }  # fmt: skip


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    own = {"processor_class": "Lfm2VlProcessor"}
    names = {
        "image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>",
        "image_thumbnail": "<|img_thumbnail|>",
    }  # fmt: skip
    return {
        "tokenizer_config.json": own | names | {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>", "pad_token": "<|pad|>",
            "eos_token": "<|im_end|>", "model_input_names": ["input_ids", "attention_mask"],
            "extra_special_tokens": names, "additional_special_tokens": SPECIAL,
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | own | _SPLITTING | {
            "image_processor_type": "Lfm2VlImageProcessorFast", "do_pad": True, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": {"height": TILE, "width": TILE},
        },
        "processor_config.json": own,
    }  # fmt: skip


LFM2_VL = Recipe(
    "lfm2_vl", "Lfm2VlForConditionalGeneration", lambda: byte_level_tokenizer(SPECIAL), _config, _processor,
    LFM2_TEMPLATE, "<|startoftext|>", "<|im_end|>", "<|pad|>", tied_siglip_weights, since=(5, 16), nested=True,
    tiled=True, exact_when_masked=False,
)  # fmt: skip
