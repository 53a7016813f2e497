"""The image at as many visual tokens as a budget: for every family exact in one of two ways."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from pairs import QUESTION, image

from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.evaluation.fitting import check_fit, misfit
from hf_zspa.evaluation.resizing import Resizer, largest_grid, pooled, scales_by_area, way
from hf_zspa.pruners.registry import METHODS

SIZES = [(112, 84), (56, 140), (230, 90)]
FAMILIES_HERE = dict.fromkeys([*tiny.FAMILIES, *tiny.OTHER_FAMILIES, "pixtral"])


@pytest.mark.every_version
@pytest.mark.parametrize("keep", [0.1, 0.5])
@pytest.mark.parametrize("family", FAMILIES_HERE)
def test_an_image_is_scaled_to_the_largest_grid_or_its_squares_are_averaged(load, family, keep):
    pair = load(family)
    images = [image(0, size) for size in SIZES]
    tokens = [pair._count_tokens(each) for each in images]
    check_fit("resized", pair.model, pair.processor)
    if not scales_by_area(pair.processor):
        assert [averaged(pair, each, keep) for each in images] == tokens
        return
    resizer, record = Resizer(pair.processor, pair.model.config, keep), FAMILIES[pair.model.config.model_type]
    sizes = [pair.inputs([each, QUESTION])[record.size].tolist() for each in images]
    sizes = [size[0] if len(size) == 1 else size for size in sizes]  # or one for each tile
    grids = [record.layout(pair.model.config.to_dict(), size).grids[0].rows for size in sizes]
    most = getattr(pair.processor.image_processor, "max_image_tokens", 10**6)
    budgets = [min(most, int(max(1, keep * n + 0.5))) for n in tokens]
    wanted = [largest_grid(len(rows), len(rows[0]), budget) for rows, budget in zip(grids, budgets)]
    is_cut = len(pair.inputs([images[0], QUESTION])[record.size]) > 1
    together = {record.size: torch.tensor([1, 1]) if is_cut else torch.tensor(sizes)}
    smaller = resizer(images, together)
    small = replace(pair, processor=resizer.processor)
    assert [small._count_tokens(each) for each in smaller] == [rows * columns for rows, columns in wanted]
    assert [pair._count_tokens(each) for each in images] == tokens  # with the processor as it was
    assert all(each.mode == "RGB" for each in resizer([images[0].convert("P")] * 3, together))


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("qwen3_vl", "the image, scaled to the largest grid of its aspect within the budget"),
        ("gemma3", "averages of the image's features in the largest square within the budget, at contiguous positions"),
        ("llava_next", "features of the whole image, without its tiles, in the largest square within the budget, at"),
        ("smolvlm", "features of the whole image, without its tiles but with the text between them, in the largest"),
        ("internvl", "in the largest square within the budget (of every tile, where the budget has room for that), at"),
    ],
)
def test_what_is_done_is_said(load, family, said):
    pair = load(family)
    assert said in way(pair.processor, pair.model.config)


def averaged(pair, picture, keep) -> int:
    """Checks what is made of an image, and returns its visual tokens."""
    config, inputs = pair.model.config, pair.inputs([picture, QUESTION])
    (features,), prompts = pair.model.visual_and_prompt_tokens(**inputs)
    pruner = pooled(config, keep)
    ((indices, made),) = pruner([features], prompts)
    (kept,) = pair.model.select_visual_tokens(**inputs, visual_token_pruner=pruner)
    assert torch.equal(kept, indices)
    pair.generate(inputs, visual_token_pruner=pruner, max_new_tokens=1)
    n, budget, size = len(features), int(max(1, keep * len(features) + 0.5)), (picture.height, picture.width)
    record = FAMILIES[config.model_type]
    layout = record.layout(config.to_dict(), size if record.size else (*size, n))
    whole = torch.tensor([list(row) for row in layout.grids[0].rows])
    squares = [whole]
    if budget > whole.numel() and sum(len(row) for grid in layout.grids for row in grid.rows) == n:
        squares = list(torch.arange(n).view(-1, *whole.shape))  # every tile
    small = min(len(whole), int((budget / len(squares)) ** 0.5))
    bounds = [(i * len(whole) // small, -(-(i + 1) * len(whole) // small)) for i in range(small)]
    cells = [square[y:yy, x:xx].flatten() for square in squares for y, yy in bounds for x, xx in bounds]
    expected = torch.stack([features[cell].double().mean(0) for cell in cells])
    torch.testing.assert_close(made.double(), expected, atol=1e-5, rtol=1e-5)
    places = [square.flatten()[: small**2] for square in squares]
    assert torch.equal(torch.cat(places), indices)
    return n


@pytest.mark.every_version
@pytest.mark.parametrize("family", [family for family in FAMILIES_HERE if family in FAMILIES])
def test_a_processor_that_takes_images_by_prompt_is_known(load, family):
    pair, prompt = load(family), [image(0), QUESTION]
    texts = [pair.render([{"type": "image"}, {"type": "text", "text": QUESTION}])] * 2
    if FAMILIES[family].images_by_prompt:
        with pytest.raises(ValueError, match="image"):
            pair.processor(text=texts, images=[image(0), image(1)], padding=True, return_tensors="pt")
    else:
        pair.processor(text=texts, images=[image(0), image(1)], padding=True, return_tensors="pt")
    assert len(pair.inputs(prompt, prompt)["input_ids"]) == 2


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


def test_a_class_token_beside_the_square_is_left_out(load):
    config = deepcopy(load("llava").model.config)
    side = config.vision_config.image_size // config.vision_config.patch_size
    config.vision_feature_select_strategy = "full"
    features = torch.randn(side * side + 1, 4)
    ((indices, made),) = pooled(config, 0.999)([features], [features[:0]])
    assert torch.equal(indices, 1 + torch.arange(side * side)) and torch.allclose(made, features[1:])


def test_what_is_neither_scaled_nor_seen_in_squares_is_refused(load):
    pair = load("pixtral")
    model, processor = SimpleNamespace(config=pair.model.config), SimpleNamespace(image_processor=None)
    with pytest.raises(ValueError, match=r"'resized' is for models that .* see them in squares, not for llava: leave"):
        check_fit("resized", model, processor)
