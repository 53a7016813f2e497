"""Write trained weights as an ordinary checkpoint that every supported transformers loads."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from ..photo import IMAGE_SIZE as PHOTO_SIZE
from ..scene import IMAGE_SIZE, PATCH_SIZE
from ..vocabulary import Vocabulary
from . import llava, qwen2_5_vl
from .families import Family
from .initialisation import IMAGE_MEAN, IMAGE_STD

# LLaVA-1.5's conversation, with this tokenizer's <bos> and <eos>.
LLAVA_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% if message['role'] != 'system' %}{{ ' ' + message['role'] | upper + ':' }}{% endif %}\
{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}\
{% for item in message['content'] | selectattr('type', 'equalto', 'image') %}{{ ' <image>' }}{% endfor %}\
{% for item in message['content'] | selectattr('type', 'equalto', 'text') %}{{ ' ' + item['text'] }}{% endfor %}\
{% endif %}\
{% if message['role'] == 'assistant' %}{{ ' ' + eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"""

# Qwen2.5-VL's conversation, without the system turn it adds by itself.
QWEN_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for item in message['content'] %}\
{% if item['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif item['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% elif item['type'] == 'text' %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_IMAGES = {
    "do_resize": True,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [IMAGE_MEAN] * 3,
    "image_std": [IMAGE_STD] * 3,
    "do_convert_rgb": True,
}
# What a checkpoint's folder holds beside config, weights and the tokenizer itself.
FILES: dict[str, dict[str, Any]] = {
    "llava": {
        "chat_template.jinja": LLAVA_TEMPLATE,
        "processor_config.json": {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,  # the class token, which the strategy "default" drops
            "patch_size": PATCH_SIZE,
            "vision_feature_select_strategy": "default",
            "processor_class": "LlavaProcessor",
        },
        "preprocessor_config.json": {
            **_IMAGES,
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            "do_center_crop": False,
        },
        "special_tokens_map.json": {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "image_token": "<image>",
        },
    },
    "qwen2_5_vl": {
        "chat_template.jinja": QWEN_TEMPLATE,
        "preprocessor_config.json": {
            **_IMAGES,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "patch_size": qwen2_5_vl.VISION_PATCH,
            "merge_size": qwen2_5_vl.MERGE,
            "temporal_patch_size": 2,
            # The scenes of training have 10 to 14 cells a side.
            "min_pixels": (10 * PATCH_SIZE) ** 2,
            "max_pixels": (14 * PATCH_SIZE) ** 2,
        },
        "special_tokens_map.json": {
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
        },
    },
}
_PHOTO_SIZE = {"size": {"height": PHOTO_SIZE, "width": PHOTO_SIZE}}
FILES["llava-photo"] = FILES["llava"] | {
    "preprocessor_config.json": FILES["llava"]["preprocessor_config.json"] | _PHOTO_SIZE
}
_LLAVA_GENERATION = {"bos_token_id": "<bos>", "eos_token_id": "<eos>", "pad_token_id": "<pad>"}
_GENERATION = {
    "llava": _LLAVA_GENERATION,
    "llava-photo": _LLAVA_GENERATION,
    "qwen2_5_vl": {"eos_token_id": "<|im_end|>", "pad_token_id": "<|endoftext|>"},
}


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Word pieces over the vocabulary; "What colour is K7's?" and "what colour is k7 ' s ?" are the same."""
    pieces = models.WordPiece(vocabulary.ids, unk_token="<unk>", continuing_subword_prefix="##")
    tokenizer = Tokenizer(pieces)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("color", "colour")])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in vocabulary.special])
    # Not special: they are text, and converters find turns by them.
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in vocabulary.markers])
    return tokenizer


def export_checkpoint(family: Family, weights: dict[str, Tensor], output: Path) -> None:
    """Write config, weights, tokenizer and processor to a folder.

    Weights are stored in bfloat16 to stay small; the config says float32, so that is how they load.
    """
    output.mkdir(parents=True, exist_ok=True)
    stored = {name: weight.to(torch.bfloat16).contiguous() for name, weight in _saved_names(family, weights).items()}
    save_file(stored, output / "model.safetensors", metadata={"format": "pt"})
    _write_json(output / "config.json", _portable_config(family))
    ids = {name: family.vocabulary.ids[token] for name, token in _GENERATION[family.name].items()}
    _write_json(output / "generation_config.json", ids)
    for name, content in FILES[family.name].items():
        if isinstance(content, str):
            (output / name).write_text(content)
        else:
            _write_json(output / name, content)
    _write_tokenizer(family, output)


def _saved_names(family: Family, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the families' checkpoints on the Hub have them; every version of transformers maps them."""
    rename = _qwen_name if family.name == "qwen2_5_vl" else _llava_name
    return {rename(name): weight for name, weight in weights.items()}


def _llava_name(name: str) -> str:
    name = name.removeprefix("model.")
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


def _qwen_name(name: str) -> str:
    return name.replace("model.language_model.", "model.", 1).replace("model.visual.", "visual.", 1)


def _portable_config(family: Family) -> dict[str, Any]:
    """The config with each field spelt for both transformers 4.57 and 5."""
    config = family.config().to_dict()
    for name in ("transformers_version", "_name_or_path"):
        config.pop(name, None)
    parts = [config, config["text_config"], config["vision_config"]]
    if family.name != "qwen2_5_vl":
        config["architectures"] = ["LlavaForConditionalGeneration"]
        config["image_token_index"] = config["image_token_id"] = family.vocabulary.ids["<image>"]
        config["image_seq_length"] = math.prod(family.grid())
        config["text_config"]["rope_theta"] = llava.ROPE_THETA
        config["text_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": llava.ROPE_THETA}
    else:
        config["architectures"] = ["Qwen2_5_VLForConditionalGeneration"]
        config["text_config"] |= qwen2_5_vl.rope_fields()
    for part in parts:
        part["dtype"] = part["torch_dtype"] = "float32"
    return config


def _write_tokenizer(family: Family, output: Path) -> None:
    vocabulary = family.vocabulary
    tokenizer = build_tokenizer(vocabulary)
    assert tokenizer.get_vocab() == vocabulary.ids and tokenizer.get_vocab_size() == len(vocabulary.tokens)
    tokenizer.save(str(output / "tokenizer.json"))
    names = {k: v for k, v in FILES[family.name]["special_tokens_map.json"].items() if k != "image_token"}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # the name both 4.57 and 5 know
        "processor_class": FILES[family.name]["preprocessor_config.json"]["processor_class"],
        "model_max_length": family.config().text_config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if family.name != "qwen2_5_vl":
        settings |= {"image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"}}
    _write_json(output / "tokenizer_config.json", settings | names)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
