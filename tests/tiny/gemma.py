"""Gemma 3 and Gemma 4."""

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, llama_tokenizer

GEMMA_SPECIAL = [
    "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<image_soft_token>",
]  # fmt: skip
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'][0]['text'] + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n'"
    " + (first if loop.first else '') }}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def gemma_tokenizer(special: list[str] = GEMMA_SPECIAL) -> Tokenizer:
    """Like Gemma's: Llama's, but that nothing is put in front of a text's first word."""
    return llama_tokenizer(special, "<bos>", prepend="")


def _config(tokenizer: Tokenizer) -> dict:
    token = tokenizer.token_to_id
    return {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "boi_token_index": token("<start_of_image>"), "eoi_token_index": token("<end_of_image>"),
        "eos_token_id": [token("<eos>"), token("<end_of_turn>")], "image_token_index": token("<image_soft_token>"),
        "initializer_range": 0.02, "mm_tokens_per_image": 16, "torch_dtype": "float32",
        "transformers_version": "4.50.0.dev0",
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32,
            "vocab_size": tokenizer.get_vocab_size() + 7, "sliding_window": 1024, "sliding_window_pattern": 2,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0, "max_position_embeddings": 2048,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 7, "vision_use_head": False,
        },
    }  # fmt: skip


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "GemmaTokenizer", "processor_class": "Gemma3Processor", "bos_token": "<bos>",
            "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": True,
            "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
            "extra_special_tokens": {
                "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
            },
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | {
            "image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor",
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_seq_length": 16, "resample": 2,
            "size": {"height": 56, "width": 56}, "do_pan_and_scan": None,
        },
        "processor_config.json": {"image_seq_length": 16, "processor_class": "Gemma3Processor"},
    }  # fmt: skip


def _hub_weights(state: dict) -> dict:
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
        name = name.replace("vision_tower.", "vision_tower.vision_model.")
        name = name.replace("language_model.", "language_model.model.")
        if not name.startswith("lm_head"):  # tied to the embedding
            renamed[name] = tensor
    return renamed


GEMMA3 = Recipe(
    "gemma3", "Gemma3ForConditionalGeneration", gemma_tokenizer, _config, _processor, GEMMA_TEMPLATE, "<bos>",
    "<end_of_turn>", "<pad>", _hub_weights, nested=True,
)  # fmt: skip


GEMMA4_SPECIAL = [
    "<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<|image>",
    "<|image|>", "<image|>", "<|audio>", "<|audio|>", "<audio|>", "<|video|>",
]  # fmt: skip
GEMMA4_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for item in message['content'] %}"
    "{% if item['type'] == 'text' %}{{ item['text'] | trim }}{% elif item['type'] == 'image' %}{{ '<|image|>' }}"
    "{% elif item['type'] == 'audio' %}{{ '<|audio|>' }}{% elif item['type'] == 'video' %}{{ '<|video|>' }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)


def _gemma4_config(tokenizer: Tokenizer) -> dict:
    """An E model's text model, whose layers have inputs of their own and share keys and values, with the attention of
    the larger ones, in which an image's tokens see each other."""
    token = tokenizer.token_to_id
    rope = {"rope_theta": 10000.0, "rope_type": "default"}
    return {
        "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "audio_config": None,
        "audio_token_id": token("<|audio|>"), "boa_token_id": token("<|audio>"), "boi_token_id": token("<|image>"),
        "eoa_token_index": token("<audio|>"), "eoi_token_id": token("<image|>"),
        "eos_token_id": [token("<eos>"), token("<turn|>")], "image_token_id": token("<|image|>"),
        "initializer_range": 0.02, "tie_word_embeddings": True, "dtype": "float32", "transformers_version": "5.5.0",
        "video_token_id": token("<|video|>"),
        "text_config": {
            "model_type": "gemma4_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "global_head_dim": 64,
            "vocab_size": tokenizer.get_vocab_size() + 7, "vocab_size_per_layer_input": tokenizer.get_vocab_size() + 7,
            "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 2, "sliding_window": 512,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 2048, "use_bidirectional_attention": "vision",
            "rope_parameters": {"full_attention": rope | {"rope_theta": 1000000.0}, "sliding_attention": rope},
        },
        "vision_config": {
            "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 8,
            "pooling_kernel_size": 2, "position_embedding_size": 512,
        },
    }  # fmt: skip


def _gemma4_processor(tokenizer: Tokenizer) -> dict[str, dict]:
    image = {
        "do_convert_rgb": True, "do_normalize": False, "do_rescale": True, "do_resize": True, "resample": 3,
        "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0], "rescale_factor": 1 / 255, "max_soft_tokens": 70,
        "patch_size": 8, "pooling_kernel_size": 2,
    }  # fmt: skip
    tokens = {
        "boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "boa_token": "<|audio>",
        "eoa_token": "<audio|>", "audio_token": "<|audio|>",
    }  # fmt: skip
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "GemmaTokenizer", "processor_class": "Gemma4Processor", "bos_token": "<bos>",
            "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "padding_side": "left",
            "extra_special_tokens": tokens, **tokens,
        },
        "processor_config.json": {
            "audio_ms_per_token": 40, "audio_seq_length": 750, "image_seq_length": 70,
            "processor_class": "Gemma4Processor",
            "feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor"},
            "image_processor": image | {"image_processor_type": "Gemma4ImageProcessor"},
            "video_processor": image | {"video_processor_type": "Gemma4VideoProcessor", "do_sample_frames": False},
        },
    }  # fmt: skip


GEMMA4 = Recipe(
    "gemma4", "Gemma4ForConditionalGeneration", lambda: gemma_tokenizer(GEMMA4_SPECIAL), _gemma4_config,
    _gemma4_processor, GEMMA4_TEMPLATE, "<bos>", "<turn|>", "<pad>",
    lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("lm_head")},
    since=(5, 23), nested=True, video=True,
)  # fmt: skip

PALIGEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]


def _paligemma_config(tokenizer: Tokenizer) -> dict:
    token = tokenizer.token_to_id
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"], "model_type": "paligemma", "hidden_size": 64,
        "bos_token_id": token("<bos>"), "eos_token_id": token("<eos>"), "pad_token_id": token("<pad>"),
        "ignore_index": -100, "image_token_index": token("<image>"), "projection_dim": 64, "torch_dtype": "float32",
        "transformers_version": "4.41.0.dev0",
        "text_config": {
            "model_type": "gemma", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2,
            "num_hidden_layers": 2, "num_image_tokens": 64, "num_key_value_heads": 1, "head_dim": 32,
            "vocab_size": tokenizer.get_vocab_size() + 7, "torch_dtype": "float32", "rope_theta": 10000.0,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2,
            "num_hidden_layers": 2, "num_image_tokens": 64, "image_size": 56, "patch_size": 7, "projection_dim": 64,
            "projector_hidden_act": "gelu_fast", "vision_use_head": False,
        },
    }  # fmt: skip


def _paligemma_processor(tokenizer: Tokenizer) -> dict[str, dict]:
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "GemmaTokenizer", "processor_class": "PaliGemmaProcessor", "bos_token": "<bos>",
            "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": ["<image>"],
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | {
            "image_processor_type": "SiglipImageProcessor", "processor_class": "PaliGemmaProcessor",
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_seq_length": 64,
            "size": {"height": 56, "width": 56},
        },
    }  # fmt: skip


PALIGEMMA = Recipe(
    "paligemma", "PaliGemmaForConditionalGeneration", lambda: gemma_tokenizer(PALIGEMMA_SPECIAL), _paligemma_config,
    _paligemma_processor, "", "<bos>", "<eos>", "<pad>", _hub_weights, since=(5, 0), needs_images=True,
    render=lambda processor, content: " ".join(part.get("text", "<image>") for part in content),
)  # fmt: skip
