"""SmolVLM and Idefics 3, which have a row of tiles for each prompt, and a line break behind each row of an image's.

The names of tiles are tokens of the vocabulary of SmolVLM, but text to Idefics 3 and the first SmolVLM, which is one.
"""

from tokenizers import Tokenizer

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config

_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}"
    "{% elif line['type'] == 'video' %}{{ '<video>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>",
]  # fmt: skip
TILES = ["<global-img>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))]
TILE = 56


def _config(tokenizer: Tokenizer, stock: str, model_type: str, version: str) -> dict:
    pad = {"pad_token_id": tokenizer.token_to_id("<|im_end|>")}
    text = text_config(tokenizer, "llama") | pad | {
        "architectures": ["VLlama3ForCausalLM"], "rope_theta": 100000, "tie_word_embeddings": False,
    }  # fmt: skip
    return pad | {
        "architectures": [stock], "model_type": model_type, "image_token_id": tokenizer.token_to_id("<image>"),
        "scale_factor": 2, "text_config": text, "tie_word_embeddings": False, "use_cache": True,
        "torch_dtype": "float32", "transformers_version": version, "vocab_size": tokenizer.get_vocab_size(),
        "vision_config": {
            "hidden_size": 32, "image_size": TILE, "intermediate_size": 48, "max_image_size": {"longest_edge": TILE},
            "model_type": f"{model_type}_vision", "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 7,
            "size": {"longest_edge": 2 * TILE}, "tie_word_embeddings": False, "use_base_siglip": False,
        },
    }  # fmt: skip


def _processor(name: str) -> dict[str, dict]:
    _without_num2words()
    own = {"processor_class": f"{name}Processor"}
    images = {
        "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
        "image_token": "<image>", "end_of_utterance_token": "<end_of_utterance>",
    } if name == "SmolVLM" else {}  # fmt: skip
    return {
        "tokenizer_config.json": own | images | {
            "tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>", "extra_special_tokens": images,
            "additional_special_tokens": ["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
            "truncation_side": "left",
        },
        "preprocessor_config.json": IMAGE_PROCESSOR | own | {
            "image_processor_type": f"{name}ImageProcessor", "do_image_splitting": True, "do_pad": True,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "max_image_size": {"longest_edge": TILE},
            "resample": 1, "size": {"longest_edge": 2 * TILE},
        },
        "processor_config.json": own | {"image_seq_len": 16},
    }  # fmt: skip


def _without_num2words() -> None:
    """SmolVLM's processor does not start without `num2words`, which spells the number of frames of a video for it."""
    from transformers.models.smolvlm import processing_smolvlm

    processing_smolvlm.num2words = processing_smolvlm.num2words or str


def _recipe(name: str, version: str, special: list[str]) -> Recipe:
    stock, family = f"{name}ForConditionalGeneration", name.lower()
    return Recipe(
        family, stock, lambda: byte_level_tokenizer(special),
        lambda tokenizer: _config(tokenizer, stock, family, version), lambda tokenizer: _processor(name),
        _TEMPLATE, "<|im_start|>", "<end_of_utterance>", "<|im_end|>", tiled=True,
        nested=True,
    )  # fmt: skip


SMOLVLM = _recipe("SmolVLM", "4.47.1", SPECIAL + TILES)
IDEFICS3 = _recipe("Idefics3", "4.46.0.dev0", SPECIAL)
