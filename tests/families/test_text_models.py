"""Families that come with several text models or vision towers: with each, the model equals the oracles."""

import pairs
import pytest
import tiny
import transformers
from drawn import assert_drawn_where_it_lies
from pairs import CASES, QUESTION, image
from test_family_oracles import CACHES, assert_equals_oracles

from hf_zspa.checkpoints.families import FAMILIES

GEMMA2 = {
    "model_type": "gemma2", "query_pre_attn_scalar": 32, "sliding_window": 8, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0, "rms_norm_eps": 1e-6,
}  # fmt: skip
MINISTRAL3 = {
    "model_type": "ministral3",
    "rope_parameters": {
        "type": "yarn", "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
        # From here on attention grows with the position; 5.0 takes the column for it, which masking leaves as it is.
        "original_max_position_embeddings": 32 if tiny.transformers_version() >= (5, 10) else 2048,
    },
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GEMMA4_31B = {
    "attention_k_eq_v": True, "hidden_size_per_layer_input": 0, "num_global_key_value_heads": 1,
    "num_kv_shared_layers": 0,
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"], "rope_scaling": None,
}  # fmt: skip
# Experts and latent attention, in every layer; as in Ministral 3 attention grows with the position.
MISTRAL4 = {
    "model_type": "mistral4", "first_k_dense_replace": 0, "kv_lora_rank": 16, "q_lora_rank": 24, "v_head_dim": 32,
    "moe_intermediate_size": 32, "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_experts_per_tok": 2, "qk_head_dim": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
    "rope_interleave": True, "routed_scaling_factor": 1.0, "topk_group": 1,
    "rope_parameters": MINISTRAL3["rope_parameters"] | {"factor": 128.0, "rope_theta": 10000.0},
}  # fmt: skip
PHI2 = {"model_type": "phi", "layer_norm_eps": 1e-5, "pad_token_id": 0, "partial_rotary_factor": 0.5}
COHERE = {
    "model_type": "cohere", "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "rope_theta": 4000000, "use_qk_norm": False,
}  # fmt: skip
GRANITE = {
    "model_type": "granite", "attention_multiplier": 0.03, "embedding_multiplier": 12.0, "logits_scaling": 8.0,
    "residual_multiplier": 0.22,
}  # fmt: skip
TEXT_MODELS = {
    "PaliGemma 2": ("paligemma", GEMMA2),
    "Ministral 3": ("mistral3", MINISTRAL3),
    "Mistral Small 4": ("mistral3", MISTRAL4),
    "Aya Vision 32B": ("aya_vision", COHERE),
    "Gemma 4 31B": ("gemma4", GEMMA4_31B),
    "Gemma 4 26B, a mixture of experts": (
        "gemma4",
        GEMMA4_31B | EXPERTS | {"enable_moe_block": True, "top_k_experts": 2},
    ),
    "InternVL 3.5": ("internvl", {"model_type": "qwen3"}),
    "InternVL 3.5, a mixture of experts": ("internvl", EXPERTS | {"model_type": "qwen3_moe"}),
    "InternVL 3.5 of GPT-OSS": ("internvl", GPT_OSS),
    "InternVL of Llama": ("internvl", {"model_type": "llama"}),
    "Kimi of DeepSeek V3": ("kimi_k25", {"model_type": "deepseek_v3"}),
    "LLaVA interleaved": ("llava of siglip", {"model_type": "qwen2"}),
    "LLaVA of Phi 3": ("llava", {"model_type": "phi3", "pad_token_id": 0}),
    "LLaVA of Gemma": ("llava", {"model_type": "gemma"}),
    "LLaVA of Phi 2": ("llava", PHI2),
    "LLaVA of Gemma 2": ("llava", GEMMA2),
    "LLaVA of Qwen 3": ("llava", {"model_type": "qwen3"}),
    "LLaVA of Granite": ("llava", GRANITE),
    "Pixtral": ("pixtral", {"model_type": "mistral"}),
    "Granite Vision": ("llava_next of siglip", GRANITE),
    "LLaVA-NeXT of Mistral": ("llava_next", {"model_type": "mistral", "num_key_value_heads": 1}),
    "LLaVA-NeXT of Qwen": ("llava_next", {"model_type": "qwen2"}),
}
HERE = {
    name: (family, text)
    for name, (family, text) in TEXT_MODELS.items()
    if tiny.transformers_version() >= tiny.RECIPES[family].since
    and text.get("model_type", "gemma") in transformers.CONFIG_MAPPING
}


@pytest.fixture(scope="module", params=HERE)
def pair(request, tmp_path_factory):
    family, text = HERE[request.param]
    made = pairs.load(family, tiny.build_base(family, tmp_path_factory.mktemp("base"), text=text))
    assert made.stock.model.config.text_config.model_type == text.get("model_type", "gemma4_text")
    return made


@pytest.mark.every_version
@pytest.mark.parametrize("case", ["text between images", "unequal images and questions"])
def test_prompts_equal_the_oracles_with_this_text_model(pair, case):
    assert_equals_oracles(pair, pair.inputs(*CASES[case]))


@pytest.mark.parametrize("cache", CACHES)
def test_any_cache_equals_the_oracles_with_this_text_model(pair, cache):
    inputs = pair.inputs([image(), QUESTION])
    no_static = pair.family == "paligemma" and tiny.transformers_version() >= (
        5,
        10,
    )  # its masks are not for this class
    if no_static and cache == "static":
        for model in (pair.stock.model, pair.model):
            with pytest.raises(AttributeError, match="'dict' object has no attribute 'ndim'"):
                model.generate(**inputs, **pair.greedy | CACHES[cache])
        return
    assert_equals_oracles(pair, inputs, cache)


@pytest.mark.parametrize("pair", [name for name, (recipe, _) in HERE.items() if recipe not in FAMILIES], indirect=True)
@pytest.mark.parametrize("size", [(64, 64), (60, 28), (9, 40)])
def test_a_token_of_another_tower_is_drawn_where_it_lies(pair, size):
    assert_drawn_where_it_lies(pair, size)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_that_a_family_can_be_made_of_is_one_that_is_tested(family):
    """LLaVA and LLaVA-NeXT are made of the same text models, whose work is the same for both."""
    record = FAMILIES[family]
    if record.text == record.vision:  # one model of its own, by several names
        return
    alike = {"llava", "llava_next"} if family in ("llava", "llava_next") else {family}
    made = [({}, recipe) for recipe in tiny.RECIPES.values() if recipe.family in alike]
    made += [(text, tiny.RECIPES[name]) for name, text in TEXT_MODELS.values() if tiny.RECIPES[name].family in alike]
    configs = [(text, recipe.config(recipe.tokenizer()), recipe.family) for text, recipe in made]
    assert {*record.text} <= {
        text.get("model_type", config["text_config"]["model_type"]) for text, config, _ in configs
    }
    towers = {config["vision_config"]["model_type"] for _, config, of in configs if of == family}
    assert {*record.vision} - {"idefics3"} <= towers  # which is a name for "idefics3_vision"
