"""What a small checkpoint of a family is made of, and what all of them share."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = """A chat between a curious human and an artificial intelligence assistant.
The assistant gives helpful, detailed, and polite answers to the human's questions. USER: what is in this image?
ASSISTANT: the image shows a red star, a blue circle, two green squares and the word open. USER: what colour is the
star? ASSISTANT: red. Which shape is left of the circle? You are a helpful assistant. user assistant system
How many cats are there? Where is the dog? Read the sign. [INST] [/INST] Picture 1: Describe the video in detail."""

MEANS = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
IMAGE_PROCESSOR = MEANS | {
    "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
    "rescale_factor": 1 / 255,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A family's small checkpoint, as its publishers write theirs.

    Attributes:
        family: its model type.
        stock: the stock generating class of transformers.
        tokenizer: makes the tokenizer, trained on `CORPUS`, special tokens and all.
        config: `config.json` of a model with that tokenizer, in the style of the version of transformers that first
            had the family.
        processor: file name → JSON of the processor's files (`tokenizer_config.json`, `preprocessor_config.json`,
            `processor_config.json`...), but for the chat template.
        template: the chat template of the published checkpoints; empty where they have none.
        bos, eos, pad: special tokens.
        hub_weights: the state dict of the stock class as the Hub's repositories name its weights.
        since: the first version of transformers in which our class of the family is exact.
        stock_fails: versions of transformers since then, major and minor, whose stock class cannot load it.
        render: the prompt for a list of parts, {"type": "image"}, {"type": "video"} or {"type": "text", "text": ...},
            given the processor; None renders the chat template, which must leave the parts where they stand.
        needs_images: whether the processor refuses prompts without any image.
        nested: whether the processor takes a list of images for each prompt, not all in one.
        video: whether the family takes videos.
        video_since: the first version in which our class is exact on them; before, it refuses them by name, or the
            stock class fails on them as well.
        tiled: whether an image's visual tokens are those of its tiles, of which the encoder's output has an entry each.
        exact_when_masked: whether attention alone reads other columns, so that the masked oracle is one too.
    """

    family: str
    stock: str
    tokenizer: Callable[[], Tokenizer]
    config: Callable[[Tokenizer], dict]
    processor: Callable[[Tokenizer], dict[str, dict]]
    template: str
    bos: str
    eos: str
    pad: str
    hub_weights: Callable[[dict], dict] = dict
    since: tuple[int, ...] = (4, 57)
    stock_fails: tuple[tuple[int, ...], ...] = ()
    render: Callable[[object, list[dict]], str] | None = None
    needs_images: bool = False
    nested: bool = False
    video: bool = False
    video_since: tuple[int, ...] = (4, 57)
    tiled: bool = False
    exact_when_masked: bool = True


def llama_tokenizer(special: list[str], bos: str = "<s>", prepend: str = "▁") -> Tokenizer:
    """Like Llama's: byte-pair pieces with ▁ for spaces, bytes for what is unknown, `bos` in front of a prompt, and
    `prepend` in front of its text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(prepend), spaces]) if prepend else spaces
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    alphabet = sorted(
        {*CORPUS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,?!:;'<>[]/ \n▁"} - {" "}
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    bytes_of_the_unknown = {f"<0x{byte:02X}>": len(trained["vocab"]) + byte for byte in range(256)}
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer.model = models.BPE(
        trained["vocab"] | bytes_of_the_unknown, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    tokenizer.pre_tokenizer = None
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.post_processor = TemplateProcessing(f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return tokenizer


def byte_level_tokenizer(special: list[str]) -> Tokenizer:
    """Like GPT-2's and Qwen's: byte-level byte-pair pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS.splitlines(), trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def text_config(tokenizer: Tokenizer, model_type: str) -> dict:
    return {
        "architectures": [f"{model_type.capitalize()}ForCausalLM"], "model_type": model_type, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "head_dim": 32, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "torch_dtype": "float32",
    }  # fmt: skip


def a_weight_per_expert(state: dict) -> dict:
    """With the weights of experts apart, as the Hub's repositories have them; transformers 5 stacks them."""
    weights = {}
    for name, tensor in state.items():
        if ".experts.gate_up_proj" in name:
            for i, (gate, up) in enumerate(w.chunk(2) for w in tensor):
                weights[name.replace("gate_up_proj", f"{i}.gate_proj.weight")] = gate.clone()
                weights[name.replace("gate_up_proj", f"{i}.up_proj.weight")] = up.clone()
        elif ".experts.down_proj" in name:
            weights |= {name.replace("down_proj", f"{i}.down_proj.weight"): w.clone() for i, w in enumerate(tensor)}
        else:
            weights[name] = tensor
    return weights


def tied_siglip_weights(state: dict) -> dict:
    """Named as before transformers 5, of a model with a SigLIP tower whose output embeddings are those of its input."""
    names = {name: name.replace("vision_tower.vision_model.", "vision_tower.") for name in state}
    return {
        names[name].replace("vision_tower.", "vision_tower.vision_model."): tensor
        for name, tensor in state.items() if name != "lm_head.weight"
    }  # fmt: skip
