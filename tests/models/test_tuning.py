"""`hf-zspa tune` measures what `generate` would do, keeps that, and asks nothing that it cannot."""

import json

import pytest
import torch
from forced import assert_placeholders_are_never_answered, assert_scores_are_those_of_generation
from pairs import QUESTION, image
from transformers import GenerationConfig

from hf_zspa import tune
from hf_zspa.tuning.candidates import setting
from hf_zspa.tuning.rows import Rows
from hf_zspa.tuning.scoring import Asked


@pytest.mark.parametrize("prompt", [[image(), QUESTION], [image(1, (90, 60)), image(2), QUESTION]])
def test_scores_of_one_forward_are_those_of_generation(pair, prompt):
    assert_scores_are_those_of_generation(pair.model, pair.inputs(prompt))


def test_what_stands_for_images_is_never_answered(pair):
    assert_placeholders_are_never_answered(pair.model, pair.inputs([image(), QUESTION]))


@pytest.fixture
def llava(load):
    """Of the small models one, whose generation config and processor are as they were afterwards."""
    pair = load("llava")
    model, processor = pair.model, pair.processor
    own, mean, template = model.generation_config, processor.image_processor.image_mean, processor.chat_template
    yield pair
    model.generation_config, processor.image_processor.image_mean, processor.chat_template = own, mean, template


@pytest.mark.parametrize(
    "changes",
    [
        lambda answer: {"eos_token_id": answer[0], "min_new_tokens": 5},
        lambda answer: {"suppress_tokens": answer[1:2]},
        lambda answer: {"begin_suppress_tokens": answer[:1]},
        lambda answer: {"bad_words_ids": [answer[:1]]},
        lambda answer: {"sequence_bias": [[answer[:1], -100.0]]},
        lambda answer: {"forced_eos_token_id": (answer[-1] + 1) % 100 + 20},
        lambda answer: {"eos_token_id": 50, "exponential_decay_length_penalty": (1, 50.0)},
        lambda answer: {"no_repeat_ngram_size": 1},
        lambda answer: {"repetition_penalty": 5.0},
        lambda answer: {"encoder_repetition_penalty": 50.0},
        lambda answer: {"num_beams": 3},
        lambda answer: {"do_sample": True, "temperature": 9.0},
    ],
)
def test_where_nothing_is_dropped_all_stays_whatever_the_generation_config_adds(llava, changes):
    inputs, own = dict(llava.inputs([image(), QUESTION])), llava.model.generation_config
    plain = Asked(llava.model, inputs, 12).answer[0].tolist()
    changed = GenerationConfig(**{"eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id} | changes(plain))
    llava.model.generation_config = changed
    asked = Asked(llava.model, inputs, 12)
    (score,) = asked.scores([[torch.arange(len(visual)) for visual in asked.visual_tokens]], 1)
    assert score.whole and score.kl < 1e-5
    assert asked.answer[0].tolist() == plain[: score.tokens]
    assert llava.model.generation_config is changed


def test_what_is_measured_is_found_again_by_all_that_it_follows_from(llava, tmp_path, monkeypatch):
    asked = []

    def measured(prompt=QUESTION, new_tokens=2, seed=0):
        asked.clear()
        rows = Rows(llava.model, llava.processor, new_tokens, 4, tmp_path)
        rows.measure([(image(seed), prompt)], [setting("zspa")], [0.5], lambda: None)
        return bool(asked)

    monkeypatch.setattr("hf_zspa.tuning.rows.Asked", lambda *given: asked.append(given) or Asked(*given))
    assert measured() and not measured()
    assert measured("what is it?") and measured(new_tokens=3) and measured(seed=1)
    llava.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert measured() and not measured()
    llava.model.generation_config = GenerationConfig(eos_token_id=7, pad_token_id=0)
    assert measured() and not measured()
    weight = llava.model.get_input_embeddings().weight.data
    own = weight.clone()
    weight += 1
    assert measured()
    weight.copy_(own)  # the model is that of other tests, too
    llava.processor.chat_template = llava.processor.chat_template.replace("ASSISTANT", "ANSWER")
    assert measured()


@pytest.mark.parametrize("keep", [30, None])
def test_a_damaged_measurement_is_named(llava, tmp_path, keep):
    rows = Rows(llava.model, llava.processor, 2, 4, tmp_path)
    row = (image(), QUESTION), [setting("zspa")], [0.5], lambda: None
    rows.measure([row[0]], *row[1:])
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:keep] if keep else json.dumps({"prompt": QUESTION}))
    with pytest.raises(ValueError, match=f"{path} is .*: delete it and run again"):
        rows.measure([row[0]], *row[1:])


ROWS = [(image(seed), QUESTION) for seed in range(4)]


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([*ROWS, (image(9), 7)], {}, TypeError, "row 5 is .*, but must be a pair of an image"),
        ([*ROWS, image(9)], {}, TypeError, "row 5 is .*, but must be a pair of an image"),
        ([*ROWS, (image(9), " ")], {}, ValueError, "the prompt of row 5 is empty"),
        ([*ROWS, ("nowhere.png", "what?")], {}, ValueError, "there is no image file nowhere.png"),
        (ROWS, {"settings": [{"method": "zspa"}]}, TypeError, "settings has .*, but must be of hf_zspa.tuning"),
        (ROWS, {"agreement": 98}, ValueError, "^agreement is 98"),
        (ROWS, {"keep_ratios": [2]}, ValueError, "^keep_ratios is 2"),
        (ROWS[:1] * 40, {}, ValueError, "^agreement 0.2 needs 2 pictures .* these rows are about 1:"),
    ],
)
def test_what_cannot_be_tuned_on_is_told_before_anything_is_measured(llava, monkeypatch, rows, options, error, message):
    monkeypatch.setattr("hf_zspa.tuning.tune.Rows", None)
    with pytest.raises(error, match=message):
        tune(llava.model, rows, llava.processor, **{"agreement": 0.2} | options)


def test_a_model_that_does_not_prune_cannot_be_tuned(llava):
    with pytest.raises(ValueError, match=r"is a LlavaForConditionalGeneration, which does not prune: .* hf_zspa.prune"):
        tune(llava.stock.model, ROWS, llava.processor, agreement=0.2)


def test_rows_may_come_one_by_one(llava):
    tuning = tune(llava.model, iter(ROWS), llava.processor, agreement=0.2, keep_ratios=[0.5], settings=[], new_tokens=2)
    assert len(tuning.measured.tokens) == 4 and len(tuning.judging) == 2
