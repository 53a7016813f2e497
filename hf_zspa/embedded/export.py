"""Write trained weights as an ordinary LLaVA checkpoint that every supported transformers loads."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from .model import IMAGE_MEAN, IMAGE_STD, ROPE_THETA, VISUAL_TOKENS, build_config
from .scenes import IMAGE_SIZE, PATCH_SIZE
from .vocabulary import MARKERS, SPECIAL, TOKEN_ID, VOCABULARY

# LLaVA-1.5's conversation, with this tokenizer's <bos> and <eos>.
CHAT_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% if message['role'] != 'system' %}{{ ' ' + message['role'] | upper + ':' }}{% endif %}\
{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}\
{% for item in message['content'] | selectattr('type', 'equalto', 'image') %}{{ ' <image>' }}{% endfor %}\
{% for item in message['content'] | selectattr('type', 'equalto', 'text') %}{{ ' ' + item['text'] }}{% endfor %}\
{% endif %}\
{% if message['role'] == 'assistant' %}{{ ' ' + eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"""

IMAGE_PROCESSOR = {
    "do_resize": True,
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [IMAGE_MEAN] * 3,
    "image_std": [IMAGE_STD] * 3,
    "do_convert_rgb": True,
}
PROCESSOR = {
    "image_token": "<image>",
    "num_additional_image_tokens": 1,  # the class token, which the strategy "default" drops
    "patch_size": PATCH_SIZE,
    "vision_feature_select_strategy": "default",
    "processor_class": "LlavaProcessor",
}


def build_tokenizer() -> Tokenizer:
    """Word pieces over the vocabulary; "What colour is K7's?" and "what colour is k7 ' s ?" are the same."""
    pieces = models.WordPiece(TOKEN_ID, unk_token="<unk>", continuing_subword_prefix="##")
    tokenizer = Tokenizer(pieces)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("color", "colour")])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    # Not special: they are text, and converters find turns by them.
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in MARKERS])
    return tokenizer


def export_checkpoint(weights: dict[str, Tensor], output: Path) -> None:
    """Write config, weights, tokenizer and processor to a folder.

    Weights are stored in bfloat16 to stay small; the config says float32, so that is how they load.
    """
    output.mkdir(parents=True, exist_ok=True)
    stored = {name: weight.to(torch.bfloat16).contiguous() for name, weight in _saved_names(weights).items()}
    save_file(stored, output / "model.safetensors", metadata={"format": "pt"})
    _write_json(output / "config.json", _portable_config())
    ids = {f"{name}_token_id": TOKEN_ID[f"<{name}>"] for name in ("bos", "eos", "pad")}
    _write_json(output / "generation_config.json", ids)
    _write_tokenizer(output)
    _write_json(output / "processor_config.json", PROCESSOR)
    image_processor = {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"}
    _write_json(output / "preprocessor_config.json", image_processor | IMAGE_PROCESSOR)
    (output / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _saved_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as LLaVA checkpoints on the Hub have them; every version of transformers maps them."""
    renamed = {}
    for name, weight in weights.items():
        name = name.removeprefix("model.")
        if name == "lm_head.weight":
            name = "language_model.lm_head.weight"
        elif name.startswith("language_model."):
            name = name.replace("language_model.", "language_model.model.", 1)
        elif name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        renamed[name] = weight
    return renamed


def _portable_config() -> dict[str, object]:
    """The config with each field spelt for both transformers 4.57 and 5."""
    config = build_config().to_dict()
    config.pop("transformers_version", None)
    config.pop("_name_or_path", None)
    config["architectures"] = ["LlavaForConditionalGeneration"]
    config["image_token_index"] = config["image_token_id"] = TOKEN_ID["<image>"]
    config["image_seq_length"] = VISUAL_TOKENS
    config["text_config"]["rope_theta"] = ROPE_THETA
    config["text_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": ROPE_THETA}
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = part["torch_dtype"] = "float32"
    return config


def _write_tokenizer(output: Path) -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.get_vocab() == TOKEN_ID and tokenizer.get_vocab_size() == len(VOCABULARY)
    tokenizer.save(str(output / "tokenizer.json"))
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    _write_json(output / "special_tokens_map.json", names | {"image_token": "<image>"})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # the name both 4.57 and 5 know
        "processor_class": "LlavaProcessor",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "image_token": "<image>",
        "extra_special_tokens": {"image_token": "<image>"},
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _write_json(output / "tokenizer_config.json", settings | names)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
