"""Questions, answers and selections behind the page, without a browser."""

import pytest
import tiny

from hf_zspa.app import answering as module
from hf_zspa.app.answering import Answering
from hf_zspa.app.markup import panels
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.loading import question_inputs
from hf_zspa.models.given import open_image


@pytest.fixture
def picture(tmp_path):
    tiny.random_image(150, 90).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.mark.parametrize("settings", [{"keep_ratio": 1.0}, {"keep_ratio": 0.2, "method": "weighted"}])
def test_an_answer_grows_to_what_the_model_generates(random, picture, monkeypatch, settings):
    monkeypatch.setattr(module, "NEW_TOKENS", 40)
    grown = [answer.text for answer in random.answer(picture, "what?", 3, **settings)]
    inputs = question_inputs(random.model, random.processor, open_image(picture), "what?")
    asked = {f"zspa_{name}": value for name, value in settings.items()}
    ids = random.model.generate(**inputs, **asked, do_sample=False, max_new_tokens=40)
    said = random.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert grown[-1] == said and len(set(grown)) > 3
    assert all(later.startswith(earlier) for earlier, later in zip(grown[:-2], grown[1:-1]))


def test_an_answer_that_nobody_waits_for_ends(random, picture, monkeypatch):
    monkeypatch.setattr(module, "NEW_TOKENS", 400)
    steps = []
    hook = random.model.lm_head.register_forward_hook(lambda *_: steps.append(1))
    answer = random.answer(picture, "what?", 3)
    next(answer)
    answer.close()
    random._thread.submit(int).result(60)  # it runs what comes next
    hook.remove()
    assert 0 < len(steps) < 400


def test_a_failure_of_the_model_is_not_swallowed(random, picture, monkeypatch):
    def fail(**_):
        raise RuntimeError("broken")

    monkeypatch.setattr(random.model, "generate", fail)
    with pytest.raises(RuntimeError, match="broken"):
        list(random.answer(picture, "what?", 3))


def test_only_the_latest_questions_are_remembered(random, picture):
    seen = []
    hook = random.model.model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    for text in [*(f"what {k}?" for k in range(module.REMEMBERED)), "what 0?", "what else?", "what 1?"]:
        random.question(picture, text)
    hook.remove()
    assert len(seen) == module.REMEMBERED + 2


def test_a_picture_of_several_views_has_a_panel_for_each(base_checkpoint, tmp_path, picture):
    answering = Answering(str(convert_checkpoint(base_checkpoint("llava_next"), tmp_path / "next")))
    question = answering.question(picture, "what?")
    drawn = panels(question.views, answering.select(question))
    assert len(question.views) == 2 and drawn.count("<img") == 4
    assert all(drawn.count(f"<figcaption>{view.name}</figcaption>") == 2 for view in question.views)


def test_a_type_or_a_device_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="--dtype is 'int8', but must be one of auto"):
        Answering("embedded", dtype="int8")
    with pytest.raises(ValueError, match="--device is 'gpu', but must be such as"):
        Answering("embedded", device="gpu")
