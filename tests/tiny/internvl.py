"""InternVL, in the checkpoints made for transformers (their names end in -hf)."""

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config

INTERNVL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'video' %}{{ '<video>\n' }}{% elif content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>",
    "</ref>", "<box>", "</box>", "<video>",
]  # fmt: skip
TILE = 56


def _config(tokenizer: Tokenizer) -> dict:
    text = text_config(tokenizer, "qwen2") | {
        "rope_theta": 1000000.0, "sliding_window": None, "use_sliding_window": False, "max_window_layers": 2,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return {
        "architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl", "downsample_ratio": 0.5,
        "image_seq_length": 16, "image_token_id": tokenizer.token_to_id("<IMG_CONTEXT>"),
        "projector_hidden_act": "gelu", "text_config": text, "tie_word_embeddings": False, "torch_dtype": "float32",
        "transformers_version": "4.52.0.dev0", "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
        "vision_config": {
            "architectures": ["InternVisionModel"], "attention_bias": True, "attention_dropout": 0.0,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 32, "image_size": [TILE, TILE],
            "intermediate_size": 48, "layer_norm_eps": 1e-06, "layer_scale_init_value": 0.1,
            "model_type": "internvl_vision", "norm_type": "layer_norm", "num_attention_heads": 2, "num_channels": 3,
            "num_hidden_layers": 2, "patch_size": [7, 7], "projection_dropout": 0.0,
            "use_absolute_position_embeddings": True, "use_mask_token": False, "use_mean_pooling": True,
            "use_qk_norm": False,
        },
    }  # fmt: skip


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    own = {"processor_class": "InternVLProcessor"}
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    image = IMAGE_PROCESSOR | own | {"size": {"height": TILE, "width": TILE}}
    return {
        "tokenizer_config.json": own | names | {
            "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": SPECIAL[1:], "extra_special_tokens": names, "return_token_type_ids": False,
        },
        "preprocessor_config.json": image | {
            "image_processor_type": "GotOcr2ImageProcessorFast", "crop_to_patches": False, "min_patches": 1,
            "max_patches": 6,
        },
        "video_preprocessor_config.json": image | {"video_processor_type": "InternVLVideoProcessor"},
        "processor_config.json": own | {"image_seq_length": 16},
    }  # fmt: skip


def _hub_weights(state: dict) -> dict:
    return {_hub_name(name): tensor for name, tensor in state.items()}


def _hub_name(name: str) -> str:
    """The name of a weight as transformers 4.52 wrote it."""
    name = name.removeprefix("model.").replace("language_model.", "language_model.model.")
    return name.replace("lm_head.", "language_model.lm_head.")


INTERNVL = Recipe(
    "internvl", "InternVLForConditionalGeneration", lambda: byte_level_tokenizer(SPECIAL), _config, _processor,
    INTERNVL_TEMPLATE, "<|im_start|>", "<|im_end|>", "<|endoftext|>", _hub_weights, tiled=True,
)  # fmt: skip
