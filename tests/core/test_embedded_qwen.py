"""The embedded Qwen2.5-VL: images of any size, M-RoPE positions, and a checkpoint that answers about both."""

import pytest
import torch
from PIL import Image
from tiny import QWEN_TEMPLATE
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.remote_code.zspa_selection import ZspaPruner
from hf_zspa.scenes import QWEN_CHECKPOINT
from hf_zspa.scenes.domains import VARIED_SCENES
from hf_zspa.scenes.heldout import collect
from hf_zspa.scenes.questions import KINDS
from hf_zspa.scenes.scene import draw_scene, varied_grid
from hf_zspa.scenes.training import qwen2_5_vl
from hf_zspa.scenes.training.answering import Exam
from hf_zspa.scenes.training.families import FAMILIES

pytestmark = pytest.mark.slow

FAMILY = FAMILIES["qwen2_5_vl"]


@pytest.fixture(scope="module")
def heldout():
    return collect(per_kind=20, domain=VARIED_SCENES)


@pytest.fixture(scope="module")
def exam(heldout):
    return Exam(QWEN_CHECKPOINT, heldout)


@pytest.fixture(scope="module")
def right(exam):
    return exam.right().float()


def inputs_of(exam, heldout, index):
    image, question = heldout.questions[index]
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
    prompt = exam.processor.apply_chat_template(turn, add_generation_prompt=True)
    return exam.processor(images=Image.fromarray(heldout.images[image]), text=prompt, return_tensors="pt")


def test_scenes_come_in_many_sizes_and_the_usual_size_draws_as_ever():
    grids = {varied_grid(0, seed) for seed in range(200)}
    assert len(grids) == 25 and {side for grid in grids for side in grid} == {10, 11, 12, 13, 14}
    scene = draw_scene(3, grid=(10, 14))
    assert scene.image.shape == (120, 168, 3) and scene.grid == (10, 14)
    assert (draw_scene(3).image == draw_scene(3, grid=(12, 12)).image).all()


def test_the_checkpoint_answers_held_out_questions(exam, right):
    for kind in KINDS:
        assert right[[k == kind for k in exam.kinds]].mean() >= 0.85, kind
    assert right.mean() > 0.95


def test_without_the_image_it_cannot_answer(exam, right):
    blind = exam.right([torch.zeros(0, dtype=torch.long)] * len(exam.kinds)).float().mean()
    assert blind < 0.45 < right.mean() - 0.3


def test_the_auto_classes_load_it_in_float32(exam):
    assert type(exam.processor).__name__ == "Qwen2_5_VLProcessor"
    assert type(exam.model) is Qwen2_5_VLForConditionalGeneration and exam.model.dtype == torch.float32


def test_training_sees_the_patches_that_the_processor_makes(exam, heldout):
    for index in (0, 7, 30):
        inputs = inputs_of(exam, heldout, index)
        image = torch.from_numpy(heldout.images[heldout.questions[index][0]])[None]
        values, grid = qwen2_5_vl.patches(image)
        assert torch.equal(grid, inputs["image_grid_thw"])
        torch.testing.assert_close(values, inputs["pixel_values"], atol=1e-5, rtol=0)


def test_training_has_the_positions_that_the_model_gives_a_prompt(exam, heldout):
    for index in (0, 7, 30):
        inputs = inputs_of(exam, heldout, index)
        types = {name: inputs[name] for name in ("mm_token_type_ids",) if name in inputs}
        expected, _ = exam.model.model.get_rope_index(
            inputs["input_ids"], image_grid_thw=inputs["image_grid_thw"], **types
        )
        positions, start = FAMILY.positions(exam.grids[heldout.questions[index][0]])
        context = positions.shape[1]
        assert torch.equal(expected[:, 0, :context], positions)
        assert expected[:, 0, context].tolist() == [start] * 3


@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_the_exam_marks_what_the_converted_checkpoint_generates(exam, heldout, keep):
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded-qwen"), trust_remote_code=True)
    kept = exam.kept(ZspaPruner(keep)) if keep < 1 else None
    marked = exam.right(kept)
    for index in range(0, len(exam.kinds), 5):
        inputs = inputs_of(exam, heldout, index)
        output = model.generate(**inputs, max_new_tokens=4, do_sample=False, zspa_keep_ratio=keep)
        answer = exam.processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (answer == heldout.questions[index][1].answer) == bool(marked[index])
        if kept is not None:
            (selected,) = model.select_visual_tokens(**inputs, zspa_keep_ratio=keep)
            assert torch.equal(selected, kept[index])


def test_a_conversation_is_rendered_as_qwen_does(exam):
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "look ."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star ?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
        {"role": "user", "content": [{"type": "text", "text": "is there a sign ?"}]},
    ]
    ours = exam.processor.apply_chat_template(turns, add_generation_prompt=True)
    theirs = exam.processor.apply_chat_template(turns, add_generation_prompt=True, chat_template=QWEN_TEMPLATE)
    assert ours == theirs


def test_the_processor_saves_and_loads_again(exam, tmp_path):
    exam.processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    text = "what colour is the sign with k7 ?"
    assert again.tokenizer(text)["input_ids"] == exam.processor.tokenizer(text)["input_ids"]
