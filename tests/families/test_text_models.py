"""Families whose checkpoints come with several text models: with each, the model equals the oracles."""

import pairs
import pytest
import tiny
import transformers
from pairs import CASES, QUESTION, image
from test_family_oracles import CACHES, assert_equals_oracles

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
GPT_OSS = {
    "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"], "rope_scaling": None,
}  # fmt: skip
TEXT_MODELS = {
    "PaliGemma 2": ("paligemma", GEMMA2),
    "Ministral 3": ("mistral3", MINISTRAL3),
    "Gemma 4, a mixture of experts": ("gemma4", EXPERTS | {"enable_moe_block": True, "top_k_experts": 2}),
    "InternVL 3.5": ("internvl", {"model_type": "qwen3"}),
    "InternVL 3.5, a mixture of experts": ("internvl", EXPERTS | {"model_type": "qwen3_moe"}),
    "InternVL 3.5 of GPT-OSS": ("internvl", GPT_OSS),
    "LLaVA interleaved": ("llava", {"model_type": "qwen2"}),
    "LLaVA of Phi 3": ("llava", {"model_type": "phi3", "pad_token_id": 0}),
    "LLaVA of Gemma": ("llava", {"model_type": "gemma"}),
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
    if pair.family == "paligemma" and cache == "static":  # its masks are not for this class
        for model in (pair.stock.model, pair.model):
            with pytest.raises(AttributeError, match="'dict' object has no attribute 'ndim'"):
                model.generate(**inputs, **pair.greedy | CACHES[cache])
        return
    assert_equals_oracles(pair, inputs, cache)
