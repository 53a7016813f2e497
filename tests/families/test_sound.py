"""The smaller Gemma 4 models hear as well: a recording beside an image stays in the prompt, whole."""

from dataclasses import replace

import numpy as np
import pairs
import pytest
import tiny
import torch
from pairs import CORE, KEEP, QUESTION, image
from test_family_oracles import CLOSE

pytestmark = pytest.mark.skipif("gemma4" not in tiny.OTHER_FAMILIES, reason="is exact from transformers 5.23 on")
HEARS = {
    "model_type": "gemma4_audio", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2,
    "output_proj_dims": 48, "subsampling_conv_channels": [128, 8],
}  # fmt: skip
IMAGE, SOUND, TEXT = {"type": "image"}, {"type": "audio"}, {"type": "text", "text": QUESTION}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    recipe = tiny.RECIPES["gemma4"]
    with pytest.MonkeyPatch.context() as patch:
        hearing = replace(recipe, config=lambda tokenizer: recipe.config(tokenizer) | {"audio_config": HEARS})
        patch.setitem(tiny.RECIPES, "gemma4", hearing)
        return pairs.load("gemma4", tiny.build_base("gemma4", tmp_path_factory.mktemp("base")))


def heard(pair, *parts, seed=0):
    wave = np.random.default_rng(seed).normal(size=16000).astype("float32") / 10
    given = {"images": [[image()]] if IMAGE in parts else None, "audio": [wave], "return_tensors": "pt"}
    return pair.processor(text=[pair.render([*parts])], audio_kwargs={"sampling_rate": 16000}, **given)


def answered(model, inputs, **options):
    out = model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
    return out.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(out.logits, 1)


@pytest.mark.parametrize("parts", [(IMAGE, SOUND, TEXT), (SOUND, TEXT, IMAGE)])
def test_a_recording_beside_an_image_is_heard_as_in_the_oracle(pair, parts):
    inputs = heard(pair, *parts)
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    tokens, scores = pair.stock.generate(inputs, keep, steps=4)
    found, logits = answered(pair.model, inputs, **pair.greedy | {"max_new_tokens": 4})
    visible = scores > -1e8
    torch.testing.assert_close(logits[visible], scores[visible], **CLOSE)
    assert torch.equal(found, tokens)
    other = answered(pair.model, heard(pair, *parts, seed=1), **pair.greedy)[1]
    assert not torch.allclose(other[:, 0], logits[:, 0], **CLOSE)  # one that is not heard would be noticed


@pytest.mark.parametrize("parts", [(SOUND, TEXT), (IMAGE, SOUND, TEXT)])
def test_a_recording_alone_and_nothing_pruned_are_as_in_stock(pair, parts):
    inputs = heard(pair, *parts)
    ratio = {"zspa_keep_ratio": 1.0} if IMAGE in parts else {}
    ours, stock = (
        answered(pair.model, inputs, **pair.greedy, **ratio),
        answered(pair.stock.model, inputs, **pair.greedy),
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, stock, strict=True))
