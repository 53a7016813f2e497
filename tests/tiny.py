"""Small random checkpoints in the shape of the Hub's: real processors, tokenizers, chat templates and key layouts."""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision_operators  # noqa: F401  lets torchvision be imported later
from huggingface_hub import save_torch_state_dict
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FAMILIES = ("llava", "llava_next", "qwen2_5_vl")
STOCK = {
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}
CORPUS = """A chat between a curious human and an artificial intelligence assistant.
The assistant gives helpful, detailed, and polite answers to the human's questions. USER: what is in this image?
ASSISTANT: the image shows a red star, a blue circle, two green squares and the word open. USER: what colour is the
star? ASSISTANT: red. Which shape is left of the circle? You are a helpful assistant. user assistant system
How many cats are there? Where is the dog? Read the sign. [INST] [/INST] Picture 1: Describe the video in detail."""

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
TEMPLATES = {"llava": LLAVA_TEMPLATE, "llava_next": MISTRAL_TEMPLATE, "qwen2_5_vl": QWEN_TEMPLATE}

LLAVA_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip


def build_base(
    family: str,
    path: Path,
    *,
    layout: str = "old",
    sharded: bool = False,
    style: str = "4.x",
    text: dict | None = None,
    seed: int = 0,
):
    """Writes a stock checkpoint and returns its folder.

    Args:
        family: one of `FAMILIES`.
        layout: the names of the weights: "old" as in the Hub's repositories, "new" as transformers names them now.
        sharded: several files and an index.
        style: whose config it is: "4.x" with `rope_theta`, "5.x" with `rope_parameters`.
        text: entries of the text model's config in place of its own.
    """
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _qwen_tokenizer() if family == "qwen2_5_vl" else _llava_tokenizer()
    config = _CONFIGS[family](tokenizer)
    config.get("text_config", config).update(text or {})
    if style == "5.x":
        text = config.get("text_config", config)
        rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta")} | text.pop("rope_scaling", {})
        text["rope_parameters"] = {k: v for k, v in rope.items() if k != "type"}
    write_json(path / "config.json", config)
    _write_processor(family, path, tokenizer)
    _write_weights(family, path, layout, sharded, seed)
    special = QWEN_SPECIAL if family == "qwen2_5_vl" else LLAVA_SPECIAL
    eos, pad = ("<|im_end|>", "<|endoftext|>") if family == "qwen2_5_vl" else ("</s>", "<pad>")
    write_json(
        path / "generation_config.json",
        {"bos_token_id": tokenizer.token_to_id(special[1]), "eos_token_id": tokenizer.token_to_id(eos),
         "pad_token_id": tokenizer.token_to_id(pad), "transformers_version": "4.49.0"},
    )  # fmt: skip
    (path / "LICENSE").write_text("The licence of the base model.\n")
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base model\n")
    return path


def _llava_tokenizer() -> Tokenizer:
    """Like Llama's: byte-pair pieces with ▁ for spaces, bytes for what is unknown, and <s> in front."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    alphabet = sorted(
        {*CORPUS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,?!:;'<>[]/ \n▁"} - {" "}
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=LLAVA_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    bytes_of_the_unknown = {f"<0x{byte:02X}>": len(trained["vocab"]) + byte for byte in range(256)}
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer.model = models.BPE(
        trained["vocab"] | bytes_of_the_unknown, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    tokenizer.pre_tokenizer = None
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in LLAVA_SPECIAL])
    tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def _qwen_tokenizer() -> Tokenizer:
    """Like Qwen's: byte-level byte-pair pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS.splitlines(), trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in QWEN_SPECIAL])
    return tokenizer


def _text_config(tokenizer: Tokenizer, model_type: str) -> dict:
    return {
        "architectures": [f"{model_type.capitalize()}ForCausalLM"], "model_type": model_type, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "head_dim": 32, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "torch_dtype": "float32",
    }  # fmt: skip


def _vision_config(image_size: int) -> dict:
    return {
        "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": image_size, "patch_size": 7, "projection_dim": 32,
    }  # fmt: skip


def _llava_config(tokenizer: Tokenizer) -> dict:
    return {
        "architectures": [STOCK["llava"]], "model_type": "llava", "image_token_index": tokenizer.token_to_id("<image>"),
        "ignore_index": -100, "image_seq_length": 64, "projector_hidden_act": "gelu",
        "pad_token_id": tokenizer.token_to_id("<pad>"), "tie_word_embeddings": False,
        "text_config": _text_config(tokenizer, "llama"), "vision_config": _vision_config(56),
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "torch_dtype": "float32",
        "transformers_version": "4.49.0",
    }  # fmt: skip


def _llava_next_config(tokenizer: Tokenizer) -> dict:
    text = _text_config(tokenizer, "mistral") | {"sliding_window": None, "rope_theta": 1000000.0}
    return _llava_config(tokenizer) | {
        "architectures": [STOCK["llava_next"]], "model_type": "llava_next", "image_seq_length": 16,
        "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]], "use_image_newline_parameter": True,
        "text_config": text, "vision_config": _vision_config(28),
    }  # fmt: skip


def _qwen_config(tokenizer: Tokenizer) -> dict:
    token = tokenizer.token_to_id
    text = _text_config(tokenizer, "qwen2_5_vl")
    return text | {
        "architectures": [STOCK["qwen2_5_vl"]], "model_type": "qwen2_5_vl", "attention_dropout": 0.0,
        "bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>"), "hidden_act": "silu",
        "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>"),
        "vision_token_id": token("<|vision_pad|>"), "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"), "rope_theta": 1000000.0, "use_sliding_window": False,
        "max_window_layers": 2, "sliding_window": 32768, "tie_word_embeddings": False, "use_cache": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}, "transformers_version": "4.41.2",
        "vision_config": {
            "depth": 2, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "in_chans": 3,
            "out_hidden_size": 64, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
            "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2, "temporal_patch_size": 2,
            "model_type": "qwen2_5_vl",
        },
    }  # fmt: skip


_CONFIGS = {"llava": _llava_config, "llava_next": _llava_next_config, "qwen2_5_vl": _qwen_config}


def _write_processor(family: str, path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(path / "tokenizer.json"))
    means = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    flags = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3}
    common = means | flags | {"rescale_factor": 1 / 255}
    if family == "qwen2_5_vl":
        processor = "Qwen2_5_VLProcessor"
        tokenizer_config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>",
                            "pad_token": "<|endoftext|>", "additional_special_tokens": QWEN_SPECIAL[1:]}  # fmt: skip
        image = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 28 * 28, "max_pixels": 28 * 28 * 64,
                 "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}  # fmt: skip
    else:
        name = {"llava": "Llava", "llava_next": "LlavaNext"}[family]
        processor, size = f"{name}Processor", {"llava": 56, "llava_next": 28}[family]
        tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
                            "unk_token": "<unk>", "pad_token": "<pad>", "padding_side": "left",
                            "model_input_names": ["input_ids", "attention_mask"],
                            "extra_special_tokens": {"image_token": "<image>"}, "image_token": "<image>"}  # fmt: skip
        kind = {"llava": "CLIPImageProcessor", "llava_next": "LlavaNextImageProcessor"}[family]
        image = {"image_processor_type": kind, "do_center_crop": True, "size": {"shortest_edge": size},
                 "crop_size": {"height": size, "width": size}}  # fmt: skip
        if family == "llava_next":
            image["image_grid_pinpoints"] = _llava_next_config(tokenizer)["image_grid_pinpoints"]
        own = {"image_token": "<image>", "patch_size": 7, "num_additional_image_tokens": 1}
        write_json(
            path / "processor_config.json",
            own | {"processor_class": processor, "vision_feature_select_strategy": "default"},
        )
    tokenizer_config |= {"processor_class": processor, "model_max_length": 2048, "clean_up_tokenization_spaces": False}
    write_json(path / "tokenizer_config.json", tokenizer_config)
    write_json(path / "preprocessor_config.json", common | image | {"processor_class": processor})
    write_json(path / "chat_template.json", {"chat_template": TEMPLATES[family]})


def _write_weights(family: str, path: Path, layout: str, sharded: bool, seed: int) -> None:
    import transformers

    stock = getattr(transformers, STOCK[family])
    config = stock.config_class.from_pretrained(path)
    model = stock(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            spread = 1.0 if "newline" in name or "embed_tokens" in name else 0.2
            if "norm" not in name or parameter.ndim > 1:
                parameter.normal_(std=spread, generator=generator)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if layout == "old":
        weights = {_hub_name(family, name): tensor for name, tensor in weights.items()}
    save_torch_state_dict(weights, path, max_shard_size="100KB" if sharded else "5GB")


def _hub_name(family: str, name: str) -> str:
    """The name of a weight in the Hub's repositories, which were written before transformers moved things around."""
    if family == "qwen2_5_vl":
        return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
    name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
    name = name.replace("vision_tower.", "vision_tower.vision_model.")
    return name.replace("language_model.", "language_model.model.").replace("lm_head.", "language_model.lm_head.")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def random_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random RGB image, so that neighbouring patches are alike."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def random_video(frames: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """Frames `(frames, height, width, 3)`, uint8."""
    return np.stack([np.asarray(random_image(width, height, seed + i)) for i in range(frames)])


def transformers_version() -> tuple[int, ...]:
    import transformers
    from packaging.version import Version

    return Version(transformers.__version__).release
