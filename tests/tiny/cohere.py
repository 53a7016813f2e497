"""Aya Vision and Command A Vision, whose tiles have text or a token between them."""

from tokenizers import AddedToken, Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config, tied_siglip_weights

_TEMPLATE = (
    "{{{{ bos_token }}}}{{% for message in messages %}}<|START_OF_TURN_TOKEN|>{{{{ {{'user': '<|USER_TOKEN|>', "
    "'assistant': '<|CHATBOT_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'}}[message['role']] }}}}"
    "{{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}"
    "{{% for content in message['content'] %}}{{% if content['type'] == 'image' %}}{image}"
    "{{% elif content['type'] == 'text' %}}{{{{ content['text'] }}}}{{% endif %}}{{% endfor %}}{{% endif %}}"
    "<|END_OF_TURN_TOKEN|>{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{% endif %}}"
)
SPECIAL = [
    "<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<|END_OF_TURN_TOKEN|>",
]  # fmt: skip
# Not flagged as special: those of roles, and for Aya those of images.
ROLES = ["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"]
IMAGES = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"]
TILE = 56


def _tokenizer(special: list[str], others: list[str]) -> Tokenizer:
    tokenizer = byte_level_tokenizer(special)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in others])
    return tokenizer


def _config(tokenizer: Tokenizer, stock: str, model_type: str) -> dict:
    text = text_config(tokenizer, "cohere2") | {
        "layer_norm_eps": 1e-05, "logit_scale": 0.25, "num_hidden_layers": 4, "sliding_window": 4096,
        "sliding_window_pattern": 4, "use_qk_norm": False, "rope_theta": 50000,
        "bos_token_id": tokenizer.token_to_id("<BOS_TOKEN>"), "eos_token_id": tokenizer.token_to_id("<EOS_TOKEN>"),
        "pad_token_id": tokenizer.token_to_id("<PAD>"),
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "image_size": TILE, "intermediate_size": 48, "model_type": "siglip_vision_model",
        "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 7, "vision_use_head": False,
    }  # fmt: skip
    return {
        "architectures": [stock], "model_type": model_type, "downsample_factor": 2, "text_config": text,
        "vision_config": vision, "torch_dtype": "float32", "alignment_intermediate_size": 64,
    }  # fmt: skip


def _aya_config(tokenizer: Tokenizer) -> dict:
    return _config(tokenizer, "AyaVisionForConditionalGeneration", "aya_vision") | {
        "adapter_layer_norm_eps": 1e-06, "image_token_index": tokenizer.token_to_id("<|IMG_PATCH|>"),
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full", "max_splits_per_img": 12,
        "transformers_version": "4.50.0.dev0",
    }  # fmt: skip


def _cohere_config(tokenizer: Tokenizer) -> dict:
    return _config(tokenizer, "Cohere2VisionForConditionalGeneration", "cohere2_vision") | {
        "image_token_id": tokenizer.token_to_id("<|IMG_PATCH|>"), "tie_word_embeddings": True,
        "transformers_version": "4.54.0.dev0",
    }  # fmt: skip


def _processor(name: str, image: dict, own: dict, extra: dict) -> dict[str, dict]:
    return {
        "tokenizer_config.json": extra | {
            "tokenizer_class": "CohereTokenizer", "bos_token": "<BOS_TOKEN>", "pad_token": "<PAD>",
            "eos_token": "<|END_OF_TURN_TOKEN|>", "unk_token": "<UNK>", "processor_class": name,
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | {
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "crop_to_patches": True, "min_patches": 1,
            "max_patches": 6, "size": {"height": TILE, "width": TILE}, "processor_class": name,
        } | image,
        "processor_config.json": own | {"processor_class": name},
    }  # fmt: skip


_AYA_PROCESSOR = _processor(
    "AyaVisionProcessor", {"image_processor_type": "GotOcr2ImageProcessor"},
    {
        "downsample_factor": 2, "patch_size": 7, "img_size": TILE, "image_token": "<image>",
        "start_of_img_token": "<|START_OF_IMG|>", "end_of_img_token": "<|END_OF_IMG|>",
        "img_patch_token": "<|IMG_PATCH|>", "img_line_break_token": "<|IMG_LINE_BREAK|>", "tile_token": "TILE",
        "tile_global_token": "TILE_GLOBAL",
    }, {},
)  # fmt: skip
_IMAGE_TOKENS = {
    "image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}  # fmt: skip
_COHERE_PROCESSOR = _processor(
    "Cohere2VisionProcessor", {"image_processor_type": "Cohere2VisionImageProcessorFast", "patch_size": 4}, {},
    _IMAGE_TOKENS | {"extra_special_tokens": _IMAGE_TOKENS},
)  # fmt: skip


def _aya_weights(state: dict) -> dict:
    """Named as transformers 4.50 wrote them."""
    names = {name: name.removeprefix("model.").replace("language_model.", "language_model.model.") for name in state}
    return tied_siglip_weights({names[name]: tensor for name, tensor in state.items()})


def _recipe(family: str, stock: str, tokenizer, config, processor: dict, image: str, hub_weights) -> Recipe:
    return Recipe(
        family, stock, tokenizer, config, lambda tokenizer: processor,
        _TEMPLATE.format(image=image), "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<PAD>", hub_weights, tiled=True,
    )  # fmt: skip


AYA_VISION = _recipe(
    "aya_vision", "AyaVisionForConditionalGeneration", lambda: _tokenizer(SPECIAL, ROLES + IMAGES), _aya_config,
    _AYA_PROCESSOR, "<image>", _aya_weights,
)  # fmt: skip
COHERE2_VISION = _recipe(
    "cohere2_vision", "Cohere2VisionForConditionalGeneration",
    lambda: _tokenizer(SPECIAL + IMAGES, ROLES), _cohere_config, _COHERE_PROCESSOR, "<|IMG_PATCH|>",
    tied_siglip_weights,
)  # fmt: skip
