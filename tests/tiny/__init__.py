"""Small random checkpoints in the shape of the Hub's: real processors, tokenizers, chat templates and key layouts."""

import json
import os
from pathlib import Path

import numpy as np
import torch
import torchvision_operators  # noqa: F401  lets torchvision be imported later
from huggingface_hub import save_torch_state_dict
from PIL import Image

from .cohere import AYA_VISION, COHERE2_VISION
from .gemma import GEMMA3, GEMMA4, PALIGEMMA
from .glm import GLM4V, GLM4V_MOE, GLM46V
from .internvl import INTERNVL
from .kimi import KIMI_K25
from .lfm2 import LFM2_VL
from .llava import (
    LLAVA,
    LLAVA_NEXT,
    LLAVA_NEXT_OF_SIGLIP,
    LLAVA_OF_SIGLIP,
    LLAVA_ONEVISION,
    LLAVA_TEMPLATE,
    MISTRAL_TEMPLATE,
)
from .mistral import MISTRAL3, PIXTRAL
from .qwen import QWEN2_5_VL, QWEN2_VL, QWEN_SPECIAL, QWEN_TEMPLATE
from .qwen3 import QWEN3_5, QWEN3_5_MOE, QWEN3_VL, QWEN3_VL_MOE
from .recipe import Recipe
from .smolvlm import IDEFICS3, SMOLVLM

__all__ = [
    "FAMILIES",
    "LLAVA_TEMPLATE",
    "MISTRAL_TEMPLATE",
    "OTHER_FAMILIES",
    "QWEN_SPECIAL",
    "QWEN_TEMPLATE",
    "RECIPES",
    "STOCK",
    "TEMPLATES",
    "build_base",
    "random_image",
    "random_video",
    "transformers_version",
    "write_json",
]  # fmt: skip
_ALL = (
    LLAVA,
    LLAVA_NEXT,
    QWEN2_5_VL,
    QWEN2_VL,
    QWEN3_VL,
    QWEN3_VL_MOE,
    QWEN3_5,
    QWEN3_5_MOE,
    GEMMA3,
    GEMMA4,
    INTERNVL,
    AYA_VISION,
    COHERE2_VISION,
    SMOLVLM,
    IDEFICS3,
    LFM2_VL,
    MISTRAL3,
    LLAVA_ONEVISION,
    GLM4V,
    GLM4V_MOE,
    GLM46V,
    PALIGEMMA,
    KIMI_K25,
)
# By family; those with another vision tower than their family's by names of their own.
RECIPES = {recipe.family: recipe for recipe in _ALL} | {
    "pixtral": PIXTRAL, "llava of siglip": LLAVA_OF_SIGLIP, "llava_next of siglip": LLAVA_NEXT_OF_SIGLIP,
}  # fmt: skip
FAMILIES = ("llava", "llava_next", "qwen2_5_vl")  # the paper's, which every test of behaviour runs on
STOCK = {family: recipe.stock for family, recipe in RECIPES.items()}
TEMPLATES = {family: recipe.template for family, recipe in RECIPES.items()}


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
        family: a key of `RECIPES`.
        layout: the names of the weights: "old" as in the Hub's repositories, "new" as transformers names them now.
        sharded: several files and an index.
        style: whose config it is: "4.x" with `rope_theta`, "5.x" with `rope_parameters`.
        text: entries of the text model's config in place of its own.
    """
    path.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[family]
    tokenizer = recipe.tokenizer()
    config = recipe.config(tokenizer)
    config.get("text_config", config).update(text or {})
    if style == "5.x":
        text = config.get("text_config", config)
        rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta")} | text.pop("rope_scaling", {})
        text["rope_parameters"] = {k: v for k, v in rope.items() if k != "type"}
    write_json(path / "config.json", config)
    tokenizer.save(str(path / "tokenizer.json"))
    common = {"model_max_length": 2048, "clean_up_tokenization_spaces": False}
    for name, content in recipe.processor(tokenizer).items():
        write_json(path / name, content | (common if name == "tokenizer_config.json" else {}))
    if recipe.template:
        write_json(path / "chat_template.json", {"chat_template": recipe.template})
    _write_weights(recipe, path, layout, sharded, seed)
    write_json(
        path / "generation_config.json",
        {"bos_token_id": tokenizer.token_to_id(recipe.bos), "eos_token_id": tokenizer.token_to_id(recipe.eos),
         "pad_token_id": tokenizer.token_to_id(recipe.pad), "transformers_version": "4.49.0"},
    )  # fmt: skip
    (path / "LICENSE").write_text("The licence of the base model.\n")
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base model\n")
    return path


def _write_weights(recipe: Recipe, path: Path, layout: str, sharded: bool, seed: int) -> None:
    import transformers

    stock = getattr(transformers, recipe.stock)
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
        weights = recipe.hub_weights(weights)
    save_torch_state_dict(weights, path, max_shard_size="100KB" if sharded else "5GB")


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


# Those of tests/families: all added since, on the versions of transformers that can do them; before a release the
# paper's too, for the table in docs/compatibility.md.
OTHER_FAMILIES = tuple(
    recipe.family
    for recipe in _ALL
    if transformers_version() >= recipe.since
    and (recipe.family not in FAMILIES or os.environ.get("TEST_ALL"))
    and transformers_version()[:2] not in recipe.stock_fails
)
