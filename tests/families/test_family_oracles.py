"""What must hold for every family, whatever it is made of: selection, generation and training equal the oracles."""

import copy
from itertools import groupby

import pytest
import tiny
import torch
from oracle import beam_search
from pairs import CASES, CORE, KEEP, OTHER, QUESTION, image
from reference import round_half_up
from transformers import DynamicCache

CLOSE = {"atol": 5e-4, "rtol": 1e-4}
SHAPES = {"tall": (40, 200), "wide": (200, 40), "tiny": (9, 9), "large": (260, 240)}
CACHES = {
    "dynamic": {}, "static": {"cache_implementation": "static"}, "none": {"use_cache": False},
}  # fmt: skip


def recipe(pair):
    return tiny.RECIPES[pair.family]


def assert_equals_oracles(pair, inputs, *caches, steps=4):
    """Greedy tokens, and the logits they come from, are the short oracle's with each of these caches, and the masked
    one's where that is one, which it is not beyond a window: that counts the columns that are there."""
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    tokens, scores = pair.stock.generate_short(inputs, keep, steps)
    visible = scores > -1e8
    given = inputs | pair.greedy | {"max_new_tokens": steps, "return_dict_in_generate": True, "output_logits": True}
    for cache in caches or ("dynamic",):
        out = pair.model.generate(**given | CACHES[cache])
        torch.testing.assert_close(torch.stack(out.logits, 1)[visible], scores[visible], **CLOSE)
        assert torch.equal(out.sequences[:, inputs["input_ids"].shape[1] :], tokens), f"{cache} cache"
    window = getattr(pair.model.config.get_text_config(), "sliding_window", None) or torch.inf
    if recipe(pair).exact_when_masked and inputs["input_ids"].shape[1] + steps <= window:
        masked = pair.stock.generate(inputs, keep, steps)[1]
        torch.testing.assert_close(masked[visible], scores[visible], **CLOSE)


@pytest.mark.every_version
@pytest.mark.parametrize("case", CASES)
def test_the_tokens_selected_are_the_references(other, case):
    inputs = other.inputs(*CASES[case])
    _, kept = other.stock.keep(inputs, KEEP, CORE)
    selected = other.model.select_visual_tokens(**inputs)
    assert [i.tolist() for i in selected] == kept and sum(map(len, kept)) < sum(map(len, other.stock.features(inputs)))


@pytest.mark.parametrize("case", ["one image", "text between images", "a text-only row"])
def test_generation_with_any_cache_and_with_none_equals_the_oracles(other, case):
    assert_equals_oracles(other, other.inputs(*CASES[case]), *CACHES)


@pytest.mark.every_version
@pytest.mark.parametrize("case", ["question first", "unequal images and questions", "adjacent images"])
def test_generation_of_the_other_prompts_equals_the_oracles(other, case):
    assert_equals_oracles(other, other.inputs(*CASES[case]))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_of_any_shape_equals_the_oracles(other, shape):
    assert_equals_oracles(other, other.inputs([image(1, SHAPES[shape]), QUESTION]))


class Averaging:
    """Averages every so manieth token with the one after it."""

    merges = True

    def __init__(self, step):
        self.step = step

    def budget(self, n):
        return len(range(0, n, self.step))

    def __call__(self, visual_tokens, prompt_tokens):
        step = self.step
        return [(torch.arange(0, len(v), step), (v + v.roll(-1, 0))[::step] / 2) for v in visual_tokens]


@pytest.mark.every_version
@pytest.mark.parametrize("step", [1, 3])
def test_merged_tokens_stand_where_the_pruner_says(other, step):
    pruner = Averaging(step)
    inputs = other.inputs(*CASES["unequal images and questions"])
    options = other.greedy | {"max_new_tokens": 4, "visual_token_pruner": pruner}
    if other.stock.has_deepstack(inputs):
        with pytest.raises(ValueError, match="which merged tokens have none of: choose a pruner that keeps"):
            other.model.generate(**inputs, **options)
        return
    features = other.stock.features(inputs)
    made = pruner(features, [])
    keep = other.stock.columns(inputs, [places.tolist() for places, _ in made])
    standing = torch.cat([f.index_copy(0, *pair) for f, pair in zip(features, made)])
    tokens, scores = other.stock.generate_short(inputs, keep, 4, standing=standing)
    out = other.model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
    visible = scores > -1e8
    torch.testing.assert_close(torch.stack(out.logits, 1)[visible], scores[visible], **CLOSE)
    assert torch.equal(out.sequences[:, inputs["input_ids"].shape[1] :], tokens)


def test_a_row_gives_what_it_gives_alone(other):
    case = CASES["a text-only row"]
    together = other.generate(other.inputs(*case))
    for tokens, row in zip(together, case, strict=True):
        assert torch.equal(other.generate(other.inputs(row))[0], tokens)


def test_text_alone_equals_the_stock_class(other):
    text = other.inputs([QUESTION], [OTHER])
    for model in (other.model, other.stock.model):
        out = model.generate(**text, **other.greedy)
        assert torch.equal(out, other.model.generate(**text, **other.greedy))


@pytest.mark.every_version
@pytest.mark.parametrize("case", ["one image", "text between images"])
def test_nothing_pruned_is_the_stock_class_bit_for_bit(other, case):
    inputs = other.inputs(*CASES[case])
    wanted = {"output_logits": True, "return_dict_in_generate": True}
    stock = other.stock.model.generate(**inputs, **other.greedy | wanted)
    with other.fields(keep_ratio=1.0):
        found = other.model.generate(**inputs, **other.greedy | wanted)
        assert torch.equal(found.sequences, stock.sequences)
        assert all(map(torch.equal, found.logits, stock.logits))
        with torch.no_grad():
            assert torch.equal(other.model(**inputs).logits, other.stock.model(**inputs).logits)


@pytest.mark.parametrize("returned", [1, 3])
def test_beams_equal_a_beam_search_over_the_oracle(other, returned):
    inputs = other.inputs([image(), "and", image(1, (56, 84)), QUESTION])
    tokens = other.generate(inputs, num_beams=3, num_return_sequences=returned, max_new_tokens=3)
    best, _ = beam_search(other.stock, inputs, other.stock.keep(inputs, KEEP, CORE)[0], 3, 3)
    assert torch.equal(tokens, best[:returned])


@pytest.mark.every_version
def test_beams_of_a_batch_give_each_row_what_it_gives_alone(other):
    case = CASES["a text-only row"]
    together = other.generate(other.inputs(*case), num_beams=2, max_new_tokens=3)
    for tokens, row in zip(together, case, strict=True):
        assert torch.equal(other.generate(other.inputs(row), num_beams=2, max_new_tokens=3)[0], tokens)


def test_prompt_lookup_equals_greedy_or_is_refused_as_in_stock(other):
    inputs = other.inputs(*CASES["one image"])
    if other.model._is_stateful:  # a recurrence cannot take proposed tokens back
        for model in (other.model, other.stock.model):
            with pytest.raises(ValueError, match="not supported with stateful models"):
                model.generate(**inputs, **other.greedy, prompt_lookup_num_tokens=3)
        return
    assert torch.equal(other.generate(inputs, prompt_lookup_num_tokens=3), other.generate(inputs))


@pytest.mark.every_version
def test_a_second_turn_continues_from_the_pruned_cache(other):
    inputs = other.inputs(*CASES["one image"])
    cache = DynamicCache(config=other.model.config.get_text_config())
    first = other.model.generate(**inputs, **other.greedy, past_key_values=cache)
    more = other.processor.tokenizer(" and where is the dog?", add_special_tokens=False, return_tensors="pt").input_ids
    ids = torch.cat([first, more], 1)
    keep, _ = other.stock.keep(inputs, KEEP, CORE)
    (row,) = other.stock.short_rows(inputs, keep)
    for token in ids[0, inputs["input_ids"].shape[1] :]:
        row.append(token.view(1, 1))
    expected = row.logits()[:, -1]
    out = other.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache,
        **other.greedy | {"max_new_tokens": 1}, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    torch.testing.assert_close(out.logits[0], expected, **CLOSE)


def short_logits(pair, inputs):
    """Per row the short oracle's logits `(P, vocabulary)`, and the columns they are of."""
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    columns = keep & inputs["attention_mask"].bool()
    return [(row.logits()[0], c.nonzero()[:, 0]) for row, c in zip(pair.stock.short_rows(inputs, keep), columns)]


@pytest.mark.every_version
@pytest.mark.parametrize("case", ["text between images", "a text-only row"])
def test_a_direct_forward_has_the_oracles_logits_and_loss(other, case):
    inputs = other.inputs(*CASES[case])
    hidden = torch.isin(inputs["input_ids"], torch.tensor(other.stock.placeholder_ids)) | (
        inputs["attention_mask"] == 0
    )
    labels = inputs["input_ids"].masked_fill(hidden, -100)
    positions = other.stock.positions(inputs, inputs["input_ids"], inputs["attention_mask"])
    out = other.model(**inputs, labels=labels, position_ids=positions)
    predictions, targets = [], []
    for found, label, (logits, columns) in zip(out.logits, labels, short_logits(other, inputs), strict=True):
        torch.testing.assert_close(found[columns], logits, **CLOSE)
        predictions.append(logits[:-1])
        targets.append(label[columns][1:])
    loss = torch.nn.functional.cross_entropy(torch.cat(predictions).float(), torch.cat(targets))
    torch.testing.assert_close(out.loss, loss, **CLOSE)
    last = other.model(**inputs, logits_to_keep=3, position_ids=positions).logits
    torch.testing.assert_close(last, out.logits[:, -3:], **CLOSE)


def test_a_training_step_has_the_oracles_gradients(other):
    inputs = other.inputs(*CASES["one image"])
    labels = inputs["input_ids"].masked_fill(
        torch.isin(inputs["input_ids"], torch.tensor(other.stock.placeholder_ids)), -100
    )
    keep, _ = other.stock.keep(inputs, KEEP, CORE)
    columns = keep[0].nonzero()[:, 0]
    stock = copy.deepcopy(other.stock)
    (row,) = stock.short_rows(inputs, keep)
    torch.nn.functional.cross_entropy(row.logits()[0, :-1].float(), labels[0][columns][1:]).backward()
    model = copy.deepcopy(other.model)
    model(**inputs, labels=labels).loss.backward()
    expected = {name: p.grad for name, p in stock.model.model.get_decoder().named_parameters()}
    for name, parameter in model.model.get_decoder().named_parameters():
        if not name.startswith(("vision_model.", "connector.")):  # which are in what 4.57 calls Idefics' decoder
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-3, rtol=1e-2)
    text = ("language_model", "text_model", "lm_head")
    vision = [p.grad for n, p in model.named_parameters() if not any(part in n for part in text)]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in vision)


WITH_VIDEOS = [family for family in tiny.OTHER_FAMILIES if tiny.RECIPES[family].video]
PRUNABLE = [family for family in WITH_VIDEOS if tiny.transformers_version() >= tiny.RECIPES[family].video_since]
every_family_with_videos = pytest.mark.parametrize("family", PRUNABLE)
VIDEO_CASES = {
    "a video": [[tiny.random_video(4, 84, 56), QUESTION]],
    "an image before a video": [[image(), "and", tiny.random_video(4, 84, 56), QUESTION]],
    "a video and an image in other rows": [[tiny.random_video(6, 56, 56), QUESTION], [OTHER], [OTHER, image(1)]],
    "an image between videos": [
        [tiny.random_video(4, 84, 56), image(2), tiny.random_video(4, 56, 56, seed=9), QUESTION], [image(3), OTHER],
    ],
    "videos in two rows": [[tiny.random_video(4, 84, 56), QUESTION], [OTHER, tiny.random_video(4, 56, 84, seed=9)]],
}  # fmt: skip


def why_refused(pair, inputs) -> str | None:
    """What an error says where videos, or images beside them, cannot be pruned; None where they can."""
    if tiny.transformers_version() < recipe(pair).video_since:
        return r"videos of this model can be pruned with transformers 5\.19 or later only"
    one_placeholder = pair.model.model.placeholder_id("image") == pair.model.model.placeholder_id("video")
    return "images and videos stand at the same" if one_placeholder and "pixel_values" in inputs else None


@pytest.mark.every_version
@pytest.mark.parametrize("family", WITH_VIDEOS)
@pytest.mark.parametrize("case", VIDEO_CASES)
def test_images_and_videos_equal_the_oracles_or_are_refused(load, family, case):
    pair = load(family)
    inputs = pair.inputs(*VIDEO_CASES[case])
    if tiny.transformers_version() < recipe(pair).video_since and not pair.model.model.completed_by_forward:
        for model in (pair.stock.model, pair.model):
            with pytest.raises(RuntimeError, match=r"split_sizes|Sizes of tensors"):  # it cannot merge frames
                model.generate(**inputs, **pair.greedy)
        return
    if why := why_refused(pair, inputs):
        for call in (pair.generate, lambda given: pair.model(**given), lambda given: pair.model.model(**given)):
            with pytest.raises(ValueError, match=why):
                call(inputs)
        return
    _, kept = pair.stock.keep(inputs, KEEP, CORE)
    assert [i.tolist() for i in pair.model.select_visual_tokens(**inputs)] == kept
    assert_equals_oracles(pair, inputs)


@every_family_with_videos
def test_beams_of_images_and_videos_give_each_row_what_it_gives_alone(load, family):
    pair, case = load(family), VIDEO_CASES["an image between videos"]
    if tiny.transformers_version() < (5,) and family.startswith("qwen3"):
        with pytest.raises(RuntimeError, match="split_sizes"):  # it takes each frame for a video
            pair.stock.model.generate(**pair.inputs(*case), num_beams=2, max_new_tokens=3)
        return
    if why_refused(pair, pair.inputs(*case)):
        case = VIDEO_CASES["videos in two rows"]
    together = pair.generate(pair.inputs(*case), num_beams=2, max_new_tokens=3)
    for tokens, row in zip(together, case, strict=True):
        assert torch.equal(pair.generate(pair.inputs(row), num_beams=2, max_new_tokens=3)[0], tokens)


@every_family_with_videos
def test_a_video_has_one_budget_whatever_stands_between_its_frames(load, family):
    pair = load(family)
    inputs = pair.inputs([tiny.random_video(4, 160, 32), QUESTION])
    (kept,) = pair.model.select_visual_tokens(**inputs)
    is_token = inputs["input_ids"][0] == pair.model.model.placeholder_id("video")
    runs = [sum(run) for token, run in groupby(is_token.tolist()) if token]
    assert len(kept) == round_half_up(sum(runs), KEEP)
    if len(runs) > 1:
        assert len(kept) != sum(round_half_up(frame, KEEP) for frame in runs)


def test_compact_positions_equal_the_oracle_renumbered(other):
    if "compact" not in other.model.config_class.allowed_position_ids:
        with other.fields(position_ids="compact"), pytest.raises(ValueError, match="must be 'preserve'"):
            other.generate(other.inputs(*CASES["one image"]))
        return
    inputs = other.inputs(*CASES["unequal images and questions"])
    keep, _ = other.stock.keep(inputs, KEEP, CORE)
    with other.fields(position_ids="compact"):
        assert torch.equal(other.generate(inputs), other.stock.generate_short(inputs, keep, 6, compact=True)[0])
