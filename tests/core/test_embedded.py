"""The embedded model: its scenes and questions, a checkpoint that answers them, and a training loop that learns."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from hf_zspa.scenes import CHECKPOINT, EXAMPLES
from hf_zspa.scenes.heldout import collect, scene_questions
from hf_zspa.scenes.questions import KINDS
from hf_zspa.scenes.scene import HELD_OUT_COMBINATIONS, draw_scene
from hf_zspa.scenes.training.answering import Exam
from hf_zspa.scenes.training.batches import SceneBatches
from hf_zspa.scenes.training.families import FAMILIES
from hf_zspa.scenes.training.trainer import Trainer
from hf_zspa.scenes.vocabulary import COLOURS, LLAVA, SHAPES


def answers_by_looking(scene, question):
    """Every answer the scene's description allows, worked out from the words of the question alone."""
    things, words = scene.objects, question.split()
    shapes = [thing for thing in things if thing.kind in SHAPES]
    bars = [thing for thing in things if thing.kind == "bar"]
    if question.startswith("is there"):
        return {"yes" if any((t.colour, t.kind) == tuple(words[3:5]) for t in things) else "no"}
    if words[0] == "is":
        first, second = words[2:4], words[-3:-1]
        pairs = [(a, b) for a in things for b in things if [a.colour, a.kind] == first and [b.colour, b.kind] == second]
        if "above" in words:
            return {"above" if a.y < b.y else "below" for a, b in pairs}
        return {"left" if a.x < b.x else "right" for a, b in pairs}
    if question.startswith("what is written"):
        return {t.text for t in things if t.kind == "sign" and t.colour == words[5]}
    if question.startswith("what shape is"):
        return {t.kind for t in things if t.colour == words[3]}
    if "with" in words:
        return {t.colour for t in things if t.text == words[6]}
    if words[-2] in SHAPES:
        return {t.colour for t in shapes if t.kind == words[-2]}
    key, pool = {
        "tallest": (lambda t: -(t.box[3] - t.box[1]), bars),
        "shortest": (lambda t: t.box[3] - t.box[1], bars),
        "largest": (lambda t: -(t.box[2] - t.box[0]), shapes),
        "leftmost": (lambda t: t.box[0], shapes),
        "rightmost": (lambda t: -t.box[2], shapes),
        "topmost": (lambda t: t.box[1], shapes),
        "bottommost": (lambda t: -t.box[3], shapes),
    }[words[4]]
    best = min(key(thing) for thing in pool)
    return {thing.colour for thing in pool if key(thing) == best}


@pytest.fixture(scope="module")
def exam():
    return Exam(CHECKPOINT, collect(per_kind=20))


@pytest.fixture(scope="module")
def right(exam):
    return exam.right().float()


def test_a_seed_gives_the_same_scene_every_time_and_another_one_in_another_split():
    scene, again, other = draw_scene(7), draw_scene(7), draw_scene(7, "held-out")
    assert np.array_equal(scene.image, again.image) and scene.objects == again.objects
    assert not np.array_equal(scene.image, other.image)


@pytest.mark.parametrize("split", ["train", "held-out", "unseen"])
def test_every_question_has_exactly_one_answer_and_it_is_the_one_given(split):
    kinds = set()
    for seed in range(50):
        scene, asked = scene_questions(seed, split)
        for question in asked:
            kinds.add(question.kind)
            assert answers_by_looking(scene, question.text) == {question.answer}, question
            assert LLAVA.encode(question.text)
    assert kinds == set(KINDS)


def test_objects_are_seen_where_the_description_says():
    for seed in range(40):
        scene = draw_scene(seed)
        assert 7 <= len(scene.objects) <= 10
        for index, thing in enumerate(scene.objects):
            ys, xs = np.nonzero(scene.owner == index + 1)
            assert abs((xs.min() + xs.max()) / 2 - thing.x) <= 2
            # The colour named is the nearest of the palette to what most of the object's pixels show.
            pixel = np.median(scene.image[ys, xs], axis=0)
            assert min(COLOURS, key=lambda name: np.abs(pixel - COLOURS[name]).sum()) == thing.colour


@pytest.mark.slow
def test_training_scenes_never_show_a_held_out_combination():
    shown = {(thing.colour, thing.kind) for seed in range(300) for thing in draw_scene(seed).objects}
    unseen = {(thing.colour, thing.kind) for seed in range(60) for thing in draw_scene(seed, "unseen").objects}
    assert not shown & HELD_OUT_COMBINATIONS
    assert unseen >= HELD_OUT_COMBINATIONS


@pytest.mark.slow
def test_the_checkpoint_answers_held_out_questions(exam, right):
    for kind in KINDS:
        assert right[[k == kind for k in exam.kinds]].mean() >= 0.85, kind
    assert right.mean() > 0.95


@pytest.mark.slow
def test_without_the_image_or_with_a_wrong_one_it_cannot_answer(exam, right, monkeypatch):
    blind = exam.right([torch.zeros(0, dtype=torch.long)] * len(exam.kinds)).float().mean()
    monkeypatch.setattr(exam, "image_of", [*exam.image_of[len(KINDS) :], *exam.image_of[: len(KINDS)]])
    wrong = exam.right().float().mean()
    assert max(blind, wrong) < 0.45 < right.mean() - 0.3


def test_the_auto_classes_load_it_and_generate_answers_the_examples():
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    assert isinstance(processor, LlavaProcessor) and type(model) is LlavaForConditionalGeneration
    assert model.dtype == torch.float32
    examples = json.loads((EXAMPLES / "examples.json").read_text())
    assert [example["kind"] for example in examples] == list(KINDS)
    answers = []
    for example in examples:
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": example["question"]}]}]
        prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
        inputs = processor(images=Image.open(EXAMPLES / example["file"]), text=prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        answers.append(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert answers == [example["answer"] for example in examples]


def test_the_examples_are_true():
    for example in json.loads((EXAMPLES / "examples.json").read_text()):
        scene = draw_scene(example["seed"], "held-out")
        assert np.array_equal(np.asarray(Image.open(EXAMPLES / example["file"])), scene.image)
        assert answers_by_looking(scene, example["question"]) == {example["answer"]}


@pytest.mark.slow
def test_the_exam_asks_exactly_what_the_processor_and_the_model_would_see(exam, right):
    heldout = collect(per_kind=20)
    image, question = heldout.questions[3]
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
    prompt = exam.processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = exam.processor(images=heldout.images[image], text=prompt, return_tensors="pt")
    output = exam.model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    answered = exam.processor.decode(output, skip_special_tokens=True) == question.answer
    assert answered == bool(right[3])
    assert inputs["input_ids"][0].tolist() == [
        *exam.before.tolist(),
        *[exam.model.config.image_token_index] * 144,
        *exam.after[3],
    ]


@pytest.mark.parametrize(
    ("typed", "pieces"),
    [
        ("What color is the star?", ["what", "colour", "is", "the", "star", "?"]),
        ("is K7 on it", ["is", "k", "##7", "on", "<unk>"]),
        ("<bos> USER: <image> no ASSISTANT:", ["<bos>", "USER:", "<image>", "no", "ASSISTANT:"]),
    ],
)
def test_the_tokenizer_takes_questions_as_people_type_them(exam, typed, pieces):
    tokenizer = exam.processor.tokenizer
    ids = tokenizer(typed, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(tokenizer("k7", add_special_tokens=False)["input_ids"]) == "k7"


def test_a_conversation_is_rendered_as_llava_does(exam):
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "look ."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star ?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
        {"role": "user", "content": [{"type": "text", "text": "is there a sign ?"}]},
    ]
    assert exam.processor.apply_chat_template(turns, add_generation_prompt=True) == (
        "<bos> look . USER: <image> is there a star ? ASSISTANT: no <eos> USER: is there a sign ? ASSISTANT:"
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_few_training_steps_lower_both_losses(family):
    trainer = Trainer(family, seed=0, dtype=torch.float32)
    batch = {key: torch.from_numpy(value) for key, value in SceneBatches(family, 1, 2, 4, seed=0)[0].items()}
    aligned = [trainer.align(batch)[1].item()]
    for _ in range(6):
        trainer.update(trainer.align(batch)[1], 1e-3, 1e-3)
    aligned.append(trainer.align(batch)[1].item())
    answered = [trainer.answer(batch)[1]["answer"]]
    for _ in range(6):
        trainer.update(trainer.answer(batch)[0], 1e-3, 1e-3)
    answered.append(trainer.answer(batch)[1]["answer"])
    assert aligned[1] < 0.8 * aligned[0]
    assert answered[1] < 0.8 * answered[0]
