"""Families that cut an image into tiles: an image is all of its tiles, and no more than one image's."""

import pytest
import tiny
import torch
from pairs import CASES, KEEP, OTHER, QUESTION, image
from test_family_oracles import assert_equals_oracles

from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.loading import load_processor
from hf_zspa.remote_code.zspa_prompt import marks

TILED = [family for family in tiny.OTHER_FAMILIES if tiny.RECIPES[family].tiled]
MARKED = [family for family in TILED if FAMILIES[family].image_markers]
ONE_TILE, MANY, OTHERS = image(1, (9, 9)), image(2, (112, 84)), image(3, (50, 150))
ROWS = {
    "one tile first": [[ONE_TILE, MANY, QUESTION]],
    "one tile last": [[MANY, ONE_TILE, QUESTION]],
    "one tile only, twice": [[ONE_TILE, image(4, (9, 9)), QUESTION]],
    "rows that end and begin with an image": [[QUESTION, OTHERS, MANY], [MANY, MANY, QUESTION], [ONE_TILE]],
}


@pytest.mark.every_version
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("family", TILED)
def test_adjacent_images_are_told_apart(load, family, rows):
    pair = load(family)
    inputs = pair.inputs(*ROWS[rows])
    seen, _ = pair.model.visual_and_prompt_tokens(**inputs)
    assert [len(tokens) for tokens in seen] == inputs.visual_tokens["image"]
    assert_equals_oracles(pair, inputs)


@pytest.mark.parametrize("family", TILED)
def test_an_image_has_one_budget_over_its_tiles(load, family):
    pair = load(family)
    inputs = pair.inputs([MANY, OTHERS, QUESTION])
    sizes = inputs.visual_tokens["image"]
    assert min(sizes) > 2 * 16, "both have several tiles"
    kept = pair.model.select_visual_tokens(**inputs, zspa_keep_ratio=1 / max(sizes))
    assert [len(indices) for indices in kept] == [1, 1]
    assert [len(i) for i in pair.model.select_visual_tokens(**inputs)] == [int(n * KEEP / 100 + 0.5) for n in sizes]


@pytest.mark.parametrize("family", MARKED)
def test_a_config_that_does_not_say_what_marks_an_image_is_refused(load, family):
    pair = load(family)
    inputs = pair.inputs(*CASES["one image"])
    with pair.fields(image_marker_ids=None):
        for call in (pair.model, pair.model.generate, pair.model.select_visual_tokens):
            with pytest.raises(ValueError, match=r"zspa_image_marker_ids is missing.*hf-zspa convert"):
                call(**inputs)


@pytest.mark.parametrize("family", MARKED)
def test_an_image_without_its_marker_is_refused(load, family):
    pair = load(family)
    inputs = pair.inputs([MANY, QUESTION], [MANY, "and", OTHERS, QUESTION])
    markers = marks(inputs["input_ids"], pair.model.config.zspa_image_marker_ids)
    assert markers.sum(1).tolist() == [1, 2]
    inputs["input_ids"][0, markers[0]] = inputs["input_ids"][0, -1]
    with pytest.raises(ValueError, match=r"marks an image of input_ids.*unchanged"):
        pair.model.generate(**inputs, **pair.greedy)


@pytest.mark.parametrize("family", TILED)
def test_tiles_that_are_missing_are_refused(load, family):
    pair = load(family)
    inputs = pair.inputs(*CASES["one image"])
    by_row = inputs["pixel_values"].ndim == 5
    for name in {"pixel_values", "pixel_attention_mask", "spatial_shapes"} & set(inputs):
        inputs[name] = inputs[name][:, :-1] if by_row else inputs[name][:-1]
    with pytest.raises(ValueError, match="pass the processor's outputs unchanged"):
        pair.model.generate(**inputs, **pair.greedy)


@pytest.mark.every_version
@pytest.mark.parametrize("family", ["internvl", "smolvlm"])
def test_each_frame_of_a_video_is_an_image(load, family):
    pair = load(family)
    inputs = pair.inputs([tiny.random_video(3, 84, 56), QUESTION], ["and", tiny.random_video(3, 56, 84, 9), OTHER])
    inputs.visual_tokens = {"image": [16] * 6}
    assert int(torch.isin(inputs["input_ids"], torch.tensor(pair.stock.placeholder_ids)).sum()) == 6 * 16
    assert [len(indices) for indices in pair.model.select_visual_tokens(**inputs)] == [5] * 6
    assert_equals_oracles(pair, inputs)


def test_a_package_that_a_processor_lacks_is_named(base_checkpoint, monkeypatch):
    folder = base_checkpoint("smolvlm")
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(ValueError, match="pip install num2words"):
        load_processor(folder)
