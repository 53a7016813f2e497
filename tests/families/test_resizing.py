"""The image at as many visual tokens as a budget: for every family exact in one of two ways, or refused by name."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from pairs import QUESTION, image

from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.evaluation.fitting import check_fit, misfit
from hf_zspa.evaluation.resizing import Resizer, largest_grid, scales_by_area
from hf_zspa.pruners.registry import METHODS

SIZES = [(112, 84), (56, 140), (230, 90)]
FAMILIES_HERE = dict.fromkeys([*tiny.FAMILIES, *tiny.OTHER_FAMILIES, "pixtral"])


@pytest.mark.every_version
@pytest.mark.parametrize("keep", [0.1, 0.5])
@pytest.mark.parametrize("family", FAMILIES_HERE)
def test_an_image_is_resized_exactly_or_refused(load, family, keep):
    pair = load(family)
    images = [image(0, size) for size in SIZES]
    tokens = [pair._count_tokens(each) for each in images]
    if scales_by_area(pair.processor):
        check_fit("resized", pair.model, pair.processor)
        resizer, record = Resizer(pair.processor, pair.model.config, keep), FAMILIES[pair.model.config.model_type]
        sizes = [pair.inputs([each, QUESTION])[record.size][0] for each in images]
        grids = [record.layout(pair.model.config.to_dict(), size.tolist()).grids[0].rows for size in sizes]
        wanted = [largest_grid(len(rows), len(rows[0]), int(max(1, keep * n + 0.5))) for rows, n in zip(grids, tokens)]
        smaller = resizer(images, {record.size: torch.stack(sizes)})
        small = replace(pair, processor=resizer.processor)
        assert [small._count_tokens(each) for each in smaller] == [rows * columns for rows, columns in wanted]
        assert all(each.mode == "RGB" for each in resizer([images[0].convert("P")], {record.size: sizes[0][None]}))
    elif len({*tokens}) == 1 and family in ("llava", "gemma3", "paligemma"):
        check_fit("resized", pair.model, pair.processor)
        pruner = METHODS["resized"].make(keep)
        (kept,) = pair.model.select_visual_tokens(**pair.inputs([images[0], QUESTION]), visual_token_pruner=pruner)
        side = int(max(1, keep * tokens[0] + 0.5) ** 0.5)
        assert kept.tolist() == list(range(side * side))
    else:
        with pytest.raises(ValueError, match=f"or see one square, not for {family}: leave this method out"):
            check_fit("resized", pair.model, pair.processor)


@pytest.mark.every_version
@pytest.mark.parametrize("family", FAMILIES_HERE)
def test_tokens_are_averaged_or_that_is_refused_before_anything_is_measured(load, family):
    pair, pruner = load(family), METHODS["tome"].make(0.5)
    inputs = pair.inputs([image(0, SIZES[0]), QUESTION])
    reason = misfit("tome", pair.model, pair.processor)
    assert (reason is not None) == (family in ("qwen3_vl", "qwen3_vl_moe"))
    if reason is None:
        pair.generate(inputs, visual_token_pruner=pruner, max_new_tokens=1)
        return
    assert reason.startswith(f"'tome' averages visual tokens, and {family} has DeepStack")
    with pytest.raises(ValueError, match="which merged tokens have none of"):
        pair.generate(inputs, visual_token_pruner=pruner, max_new_tokens=1)


def test_a_square_of_features_with_one_token_more_is_not_resized(load):
    pair = load("llava")
    config = deepcopy(pair.model.config)
    config.vision_feature_select_strategy = "full"
    model = SimpleNamespace(config=config, model=pair.model.model)
    with pytest.raises(ValueError, match=r"'resized' is for models that .* see one square, not for llava: leave"):
        check_fit("resized", model, pair.processor)
