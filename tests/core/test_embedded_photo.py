"""The embedded model for photographs: pictures of 441 tokens, questions of natural wording, pages of words."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, LlavaProcessor

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.remote_code.zspa_selection import ZspaPruner
from hf_zspa.scenes import CHECKPOINT, PHOTO_CHECKPOINT
from hf_zspa.scenes.domains import PHOTOGRAPHS
from hf_zspa.scenes.heldout import collect, scene_questions
from hf_zspa.scenes.photo import GRID, draw_photo
from hf_zspa.scenes.photo_questions import LONGEST, PHOTO_KINDS
from hf_zspa.scenes.scene import HELD_OUT_COMBINATIONS, PATCH_SIZE
from hf_zspa.scenes.training.answering import Exam
from hf_zspa.scenes.training.families import FAMILIES
from hf_zspa.scenes.training.train import train
from hf_zspa.scenes.vocabulary import COLOURS, LINE_NUMBERS, PAGE_WORDS, PHOTO_LLAVA

FAMILY = FAMILIES["llava-photo"]


def answers_by_looking(scene, question):
    """Every answer the picture's description allows, worked out from the words of the question alone."""
    things = scene.objects
    found = lambda pattern: re.search(rf"\b{pattern}(?!\S)", question)  # noqa: E731
    lines = {}
    for thing in sorted(things, key=lambda thing: thing.x):
        lines.setdefault(thing.y, []).append(thing.text)
    if match := found(r"line (\d)"):
        return {line[1] for line in lines.values() if line[0] == match[1]}
    if match := found(r"after (\w+)"):
        return {after for line in lines.values() for word, after in zip(line, line[1:]) if word == match[1]}
    if match := found(r"(leftmost|topmost|rightmost|bottommost)"):
        side = ("leftmost", "topmost", "rightmost", "bottommost").index(match[1])
        edge = lambda thing: thing.box[side] * (1 if side < 2 else -1)  # noqa: E731
        shapes = [thing for thing in things if thing.is_shape]
        return {thing.colour for thing in shapes if edge(thing) == min(map(edge, shapes))}
    if match := found(r"the (\w+) (\w+) ,? ?but"):
        other = found(r"other (\w+)")[1]
        return {t.colour for t in things if t.kind == other and (t.colour, t.kind) != match.groups()}
    if match := found(r"the (\w+) that is not (\w+)"):
        return {thing.colour for thing in things if thing.kind == match[1] and thing.colour != match[2]}
    if match := found(r"sign (?:with|that says) (\w+)"):
        return {thing.colour for thing in things if thing.text == match[1]}
    named = re.findall(r"\w+", re.sub(r"(ignore|mind) the \w+ \w+ ", "", question))
    return {thing.colour for thing in things if thing.kind in named}


@pytest.fixture(scope="module")
def heldout():
    return collect(per_kind=20, domain=PHOTOGRAPHS)


@pytest.fixture(scope="module")
def exam(heldout):
    return Exam(PHOTO_CHECKPOINT, heldout)


@pytest.fixture(scope="module")
def right(exam):
    return exam.right().float()


def test_a_seed_gives_the_same_photograph_every_time_and_another_one_in_another_split():
    photo, again, other = draw_photo(7), draw_photo(7), draw_photo(7, "held-out")
    assert np.array_equal(photo.image, again.image) and photo.objects == again.objects
    assert not np.array_equal(photo.image, other.image)
    assert photo.image.shape == (252, 252, 3) and photo.grid == (GRID, GRID)


@pytest.mark.parametrize("split", ["train", "held-out", "unseen"])
def test_every_question_has_exactly_one_answer_and_it_is_the_one_given(split):
    kinds = set()
    for seed in range(60):
        scene, asked = scene_questions(seed, split, PHOTOGRAPHS)
        for question in asked:
            kinds.add(question.kind)
            assert answers_by_looking(scene, question.text) == {question.answer}, question
            assert len(PHOTO_LLAVA.encode(question.text)) <= LONGEST
            for word, index in question.nouns:
                thing = scene.objects[index]
                assert question.text.split()[word] in (thing.kind, thing.colour, thing.text), question
    assert kinds == set(PHOTO_KINDS) - ({"next", "line"} if split == "unseen" else set())


def test_what_an_exclusion_names_is_in_the_picture_and_is_not_the_answer():
    named = 0
    for seed in range(60):
        _, asked = scene_questions(seed, "held-out", PHOTOGRAPHS)
        for question in asked:
            if question.kind == "exclusion" and question.nouns:
                (_, excluded), (_, meant) = question.nouns
                assert excluded != meant == question.about[0]
                named += 1
    assert named > 10


def test_objects_and_words_are_seen_where_the_description_says():
    pages = 0
    for seed in range(40):
        photo = draw_photo(seed)
        pages += photo.objects[0].kind == "word"
        for index, thing in enumerate(photo.objects):
            ys, xs = np.nonzero(photo.owner == index + 1)
            assert abs((xs.min() + xs.max()) / 2 - thing.x) <= 2
            seen = photo.image[ys, xs]
            if thing.kind == "word":
                assert {y // PATCH_SIZE * GRID + x // PATCH_SIZE for y, x in zip(ys, xs)} == set(thing.text_cells)
                assert 0.05 < (seen.max(-1) < 60).mean() < 0.5  # ink
            else:
                pixel = np.median(seen, axis=0)
                assert min(COLOURS, key=lambda name: np.abs(pixel - COLOURS[name]).sum()) == thing.colour
    assert 5 < pages < 25


def test_no_word_stands_twice_on_a_page_and_no_two_begin_or_end_alike():
    for seed in range(20):
        words = [thing.text for thing in draw_photo(seed).objects if thing.kind == "word"]
        assert len(set(words)) == len(words) and set(words) <= {*PAGE_WORDS, *LINE_NUMBERS}
    assert len({word[:2] for word in PAGE_WORDS}) == len({word[2:] for word in PAGE_WORDS}) == len(PAGE_WORDS)


def test_most_of_a_photograph_shows_nothing_that_is_asked_about():
    shown = [(draw_photo(seed).owner > 0).mean() for seed in range(30)]
    assert max(shown) < 0.15


@pytest.mark.slow
@pytest.mark.nightly
def test_training_photographs_never_show_a_held_out_combination():
    shown = {(thing.colour, thing.kind) for seed in range(300) for thing in draw_photo(seed).objects}
    unseen = {(thing.colour, thing.kind) for seed in range(60) for thing in draw_photo(seed, "unseen").objects}
    assert not shown & HELD_OUT_COMBINATIONS
    assert unseen >= HELD_OUT_COMBINATIONS


def test_the_generator_is_the_one_the_model_was_trained_with():
    digest = hashlib.sha256()
    for seed in range(20):
        scene, asked = scene_questions(seed, "held-out", PHOTOGRAPHS)
        things = [[t.colour, t.kind, t.text, *(float(edge) for edge in t.box)] for t in scene.objects]
        digest.update(json.dumps([things, [[q.text, q.answer] for q in asked]]).encode())
        digest.update(scene.owner.tobytes())
    assert digest.hexdigest()[:16] == "5dfb24bb8888bd92"


@pytest.mark.nightly
def test_a_training_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    def run(answer_steps, state=None):
        return train(
            FAMILY, align_steps=1, answer_steps=answer_steps, images=1, questions=2, dtype=torch.float32, log_every=1,
            workers=0, state=state, hold=True,
        )  # fmt: skip

    run(1, tmp_path / "state.pt")
    resumed, whole = run(2, tmp_path / "state.pt").weights(), run(2).weights()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_the_checkpoint_answers_held_out_questions(exam, right):
    for kind in PHOTO_KINDS:
        assert right[[k == kind for k in exam.kinds]].mean() >= 0.8, kind
    assert right.mean() > 0.9


@pytest.mark.slow
def test_without_the_image_it_cannot_answer(exam, right):
    blind = exam.right([torch.zeros(0, dtype=torch.long)] * len(exam.kinds)).float().mean()
    assert blind < 0.4 < right.mean() - 0.3


def test_the_auto_classes_load_it_in_float32(exam):
    assert isinstance(exam.processor, LlavaProcessor) and type(exam.model) is LlavaForConditionalGeneration
    assert exam.model.dtype == torch.float32
    assert exam.processor.chat_template == (CHECKPOINT / "chat_template.jinja").read_text()
    pieces = exam.processor.tokenizer.tokenize(
        "Please tell me: what color is the sign with K7, not the lamp in line 3?"
    )
    assert " ".join(pieces) == "please tell me : what colour is the sign with k ##7 , not the lamp in line 3 ?"


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_the_exam_marks_what_the_converted_checkpoint_generates(exam, heldout, keep):
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded-photo"), trust_remote_code=True)
    kept = exam.kept(ZspaPruner(keep)) if keep < 1 else None
    marked = exam.right(kept)
    for index in range(0, len(exam.kinds), 7):
        image, question = heldout.questions[index]
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
        prompt = exam.processor.apply_chat_template(turn, add_generation_prompt=True)
        inputs = exam.processor(images=Image.fromarray(heldout.images[image]), text=prompt, return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_index).sum() == GRID**2
        output = model.generate(**inputs, max_new_tokens=4, do_sample=False, zspa_keep_ratio=keep)
        answer = exam.processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (answer == question.answer) == bool(marked[index])
        if kept is not None:
            (selected,) = model.select_visual_tokens(**inputs, zspa_keep_ratio=keep)
            assert torch.equal(selected, kept[index])
