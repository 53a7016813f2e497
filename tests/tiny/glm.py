"""GLM-4.1V, GLM-4.5V and GLM-4.6V."""

from dataclasses import replace

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, a_weight_per_expert, byte_level_tokenizer, text_config

GLM_SPECIAL = [
    "<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>",
]  # fmt: skip
GLM_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}{% if message.role == 'system' %}<|system|>\n{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>\n{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for item in message.content %}{% if item.type == 'video' or 'video' in item %}"
    "<|begin_of_video|><|video|><|end_of_video|>{% elif item.type == 'image' or 'image' in item %}"
    "<|begin_of_image|><|image|><|end_of_image|>{% elif item.type == 'text' %}{{ item.text }}{% endif %}{% endfor %}"
    "{% endif %}{% elif message.role == 'assistant' %}<|assistant|>\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for item in message.content %}{{ item.text }}{% endfor %}{% endif %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _config(tokenizer: Tokenizer, stock: str, model_type: str, vision: str, version: str) -> dict:
    token = tokenizer.token_to_id
    text = text_config(tokenizer, "glm4v_text")
    del text["architectures"], text["head_dim"]
    return {
        "architectures": [stock], "model_type": model_type, "tie_word_embeddings": False,
        "image_start_token_id": token("<|begin_of_image|>"), "image_end_token_id": token("<|end_of_image|>"),
        "video_start_token_id": token("<|begin_of_video|>"), "video_end_token_id": token("<|end_of_video|>"),
        "image_token_id": token("<|image|>"), "video_token_id": token("<|video|>"), "transformers_version": version,
        "text_config": text | {
            "attention_bias": True, "attention_dropout": 0.0, "pad_token_id": token("<|endoftext|>"),
            "eos_token_id": [token(end) for end in ("<|endoftext|>", "<|user|>", "<|observation|>")],
            "hidden_act": "silu", "partial_rotary_factor": 0.5, "use_cache": True,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "model_type": vision, "hidden_size": 32, "depth": 2, "num_heads": 2, "attention_bias": False,
            "intermediate_size": 48, "hidden_act": "silu", "image_size": 32, "patch_size": 4, "out_hidden_size": 64,
            "rms_norm_eps": 1e-05, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        },
    }  # fmt: skip


def _moe_config(tokenizer: Tokenizer) -> dict:
    """The first layer is dense."""
    stock = "Glm4vMoeForConditionalGeneration"
    config = _config(tokenizer, stock, "glm4v_moe", "glm4v_moe", "4.57.0.dev0")
    config["text_config"] |= {
        "model_type": "glm4v_moe_text", "first_k_dense_replace": 1, "head_dim": 32, "moe_intermediate_size": 32,
        "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0, "topk_group": 1, "use_qk_norm": False,
    }  # fmt: skip
    return config


def _processor(name: str) -> dict[str, dict]:
    own = {"processor_class": f"{name}Processor"}
    patches = own | IMAGE_PROCESSOR | {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    return {
        "tokenizer_config.json": own | {
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": GLM_SPECIAL, "padding_side": "left",
        },
        "preprocessor_config.json": patches | {
            "image_processor_type": f"{name}ImageProcessor", "size": {"shortest_edge": 256, "longest_edge": 4608},
        },
        "video_preprocessor_config.json": patches | {  # a test's frames have no times to sample by
            "video_processor_type": f"{name}VideoProcessor", "size": {"shortest_edge": 256, "longest_edge": 4608},
            "do_sample_frames": False,
        },
    }  # fmt: skip


def _recipe(family: str, name: str, vision: str, version: str, **options) -> Recipe:
    stock = f"{name}ForConditionalGeneration"
    return Recipe(
        family, stock, lambda: byte_level_tokenizer(GLM_SPECIAL),
        lambda tokenizer: _config(tokenizer, stock, family, vision, version), lambda tokenizer: _processor(name),
        GLM_TEMPLATE, "[gMASK]", "<|endoftext|>", "<|endoftext|>", video=True, **options,
    )  # fmt: skip


GLM4V = _recipe("glm4v", "Glm4v", "glm4v", "4.57.1")
GLM4V_MOE = replace(
    GLM4V, family="glm4v_moe", stock="Glm4vMoeForConditionalGeneration", config=_moe_config,
    hub_weights=a_weight_per_expert,
)  # fmt: skip
GLM46V = _recipe("glm46v", "Glm46V", "glm4v_vision", "5.0.0rc0", since=(5, 0))
