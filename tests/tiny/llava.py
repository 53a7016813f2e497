"""LLaVA, with a tower of CLIP's or of SigLIP's, LLaVA-NeXT and LLaVA-OneVision."""

from dataclasses import replace

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, llama_tokenizer, text_config

LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\n' + message['content'][0]['text']"
    " + '\n<</SYS>>\n\n' }}{% elif message['role'] == 'user' %}{{ '[INST] ' }}{% for content in message['content']"
    " | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}{% for content in message['content']"
    " | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}{{' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '</s> '}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAVA_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]


def _vision_config(image_size: int) -> dict:
    return {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": image_size, "patch_size": 7, "projection_dim": 32,
    }  # fmt: skip


def _llava_config(tokenizer: Tokenizer) -> dict:
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "image_token_index": tokenizer.token_to_id("<image>"),
        "ignore_index": -100, "image_seq_length": 64, "projector_hidden_act": "gelu",
        "pad_token_id": tokenizer.token_to_id("<pad>"), "tie_word_embeddings": False,
        "text_config": text_config(tokenizer, "llama"), "vision_config": _vision_config(56),
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "torch_dtype": "float32",
        "transformers_version": "4.49.0",
    }  # fmt: skip


def _llava_next_config(tokenizer: Tokenizer) -> dict:
    text = text_config(tokenizer, "mistral") | {"sliding_window": None, "rope_theta": 1000000.0}
    return _llava_config(tokenizer) | {
        "architectures": ["LlavaNextForConditionalGeneration"], "model_type": "llava_next", "image_seq_length": 16,
        "image_grid_pinpoints": PINPOINTS, "use_image_newline_parameter": True,
        "text_config": text, "vision_config": _vision_config(28),
    }  # fmt: skip


def _processor(family: str) -> dict[str, dict]:
    name = {"llava": "Llava", "llava_next": "LlavaNext"}[family]
    size = {"llava": 56, "llava_next": 28}[family]
    kind = {"llava": "CLIPImageProcessor", "llava_next": "LlavaNextImageProcessor"}[family]
    image = IMAGE_PROCESSOR | {
        "image_processor_type": kind, "do_center_crop": True, "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
    }  # fmt: skip
    if family == "llava_next":
        image["image_grid_pinpoints"] = PINPOINTS
    own = {"image_token": "<image>", "patch_size": 7, "num_additional_image_tokens": 1}
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "padding_side": "left", "model_input_names": ["input_ids", "attention_mask"],
        "extra_special_tokens": {"image_token": "<image>"}, "image_token": "<image>",
    }  # fmt: skip
    return {
        "tokenizer_config.json": tokenizer | {"processor_class": f"{name}Processor"},
        "preprocessor_config.json": image | {"processor_class": f"{name}Processor"},
        "processor_config.json": own
        | {"processor_class": f"{name}Processor", "vision_feature_select_strategy": "default"},
    }


def _hub_weights(state: dict) -> dict:
    return {_hub_name(name): tensor for name, tensor in state.items()}


def _hub_name(name: str) -> str:
    """The name of a weight in the Hub's repositories, which were written before transformers moved things around."""
    name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
    name = name.replace("vision_tower.", "vision_tower.vision_model.")
    return name.replace("language_model.", "language_model.model.").replace("lm_head.", "language_model.lm_head.")


def _render(processor, content: list[dict]) -> str:
    """With every part where it stands; LLaVA's own template would put all images first."""
    parts = [part.get("text", "<image>\n") for part in content]
    return f"USER: {' '.join(parts)} ASSISTANT:"


def _recipe(family: str, stock: str, config, template: str) -> Recipe:
    return Recipe(
        family, stock, lambda: llama_tokenizer(LLAVA_SPECIAL), config, lambda tokenizer: _processor(family), template,
        "<s>", "</s>", "<pad>", _hub_weights, render=_render,
    )  # fmt: skip


LLAVA = _recipe("llava", "LlavaForConditionalGeneration", _llava_config, LLAVA_TEMPLATE)
LLAVA_NEXT = _recipe("llava_next", "LlavaNextForConditionalGeneration", _llava_next_config, MISTRAL_TEMPLATE)


def _of_siglip(recipe: Recipe) -> Recipe:
    """With a tower of SigLIP's, which has no class token, so that all its features are taken."""

    def config(tokenizer: Tokenizer) -> dict:
        own = recipe.config(tokenizer)
        vision = own["vision_config"] | {"model_type": "siglip_vision_model", "vision_use_head": False}
        del vision["projection_dim"]
        return own | {"vision_config": vision, "vision_feature_select_strategy": "full"}

    def processor(tokenizer: Tokenizer) -> dict[str, dict]:
        files = recipe.processor(tokenizer)
        if recipe.family == "llava":
            files["preprocessor_config.json"] = IMAGE_PROCESSOR | {
                "image_processor_type": "SiglipImageProcessor", "processor_class": "LlavaProcessor",
                "size": {"height": 56, "width": 56},
            }  # fmt: skip
        files["processor_config.json"] |= {"num_additional_image_tokens": 0, "vision_feature_select_strategy": "full"}
        return files

    return replace(recipe, config=config, processor=processor)


LLAVA_OF_SIGLIP, LLAVA_NEXT_OF_SIGLIP = _of_siglip(LLAVA), _of_siglip(LLAVA_NEXT)

ONEVISION_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ONEVISION_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
ONEVISION_PINPOINTS = [[30, 30], [30, 60], [60, 30], [60, 60], [30, 90], [90, 30]]
TILES = "anyres_max_3"  # four tiles are scaled down


def _onevision_config(tokenizer: Tokenizer) -> dict:
    token = tokenizer.token_to_id
    text = {"rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 2}
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision",
        "ignore_index": -100, "image_grid_pinpoints": ONEVISION_PINPOINTS, "image_token_index": token("<image>"),
        "projector_hidden_act": "gelu", "text_config": text_config(tokenizer, "qwen2") | text,
        "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.45.0.dev0",
        "use_image_newline_parameter": True, "video_token_index": token("<video>"), "vision_aspect_ratio": TILES,
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 32, "image_size": 30, "intermediate_size": 48,
            "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 7, "vision_use_head": False,
        },
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
    }  # fmt: skip


def _onevision_processor(tokenizer: Tokenizer) -> dict[str, dict]:
    own = {"processor_class": "LlavaOnevisionProcessor"}
    return {
        "tokenizer_config.json": own | {
            "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        },
        "preprocessor_config.json": own | IMAGE_PROCESSOR | {
            "image_processor_type": "LlavaOnevisionImageProcessor", "image_grid_pinpoints": ONEVISION_PINPOINTS,
            "do_pad": True, "size": {"height": 30, "width": 30}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        },
        "processor_config.json": own | {
            "image_token": "<image>", "num_image_tokens": 16, "video_token": "<video>", "vision_aspect_ratio": TILES,
            "vision_feature_select_strategy": "full",
        },
    }  # fmt: skip


def _render_onevision(processor, content: list[dict]) -> str:
    parts = [part.get("text", f"<{part['type']}>") for part in content]
    return f"<|im_start|>user {' '.join(parts)}<|im_end|><|im_start|>assistant\n"


LLAVA_ONEVISION = Recipe(
    "llava_onevision", "LlavaOnevisionForConditionalGeneration", lambda: byte_level_tokenizer(ONEVISION_SPECIAL),
    _onevision_config, _onevision_processor, ONEVISION_TEMPLATE, "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    _hub_weights, render=_render_onevision, video=True, video_since=(5, 19),
)  # fmt: skip
