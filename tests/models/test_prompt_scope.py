"""Which words of a prompt the selection listens to, on converted checkpoints with their own chat templates."""

import pytest
import tiny
import torch
from pairs import OTHER, QUESTION, image
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.remote_code.zspa_prompt import prompt_mask

SYSTEMS = (None, "You are a pirate.", "The image shows a red star and two green squares, so answer in detail.")


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def converted(request, base_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "zspa"
    convert_checkpoint(base_checkpoint(request.param), out, zspa_keep_ratio=0.3, zspa_core_ratio=1.0)
    model = AutoModelForImageTextToText.from_pretrained(out, trust_remote_code=True).eval()
    return model, AutoProcessor.from_pretrained(out)


def conversation(question, system=None, earlier=(), image_first=True):
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    for asked, answered in earlier:
        messages += [
            {"role": "user", "content": [{"type": "text", "text": asked}]},
            {"role": "assistant", "content": [{"type": "text", "text": answered}]},
        ]
    return [*messages, {"role": "user", "content": content if image_first else content[::-1]}]


def kept(converted, messages):
    model, processor = converted
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[text], images=[image()], return_tensors="pt")
    return model.select_visual_tokens(**inputs)[0].tolist()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_prompt_tokens_are_those_of_the_question(converted, system):
    model, processor = converted
    text = processor.apply_chat_template(conversation(QUESTION, system), add_generation_prompt=True)
    encoded = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    first, last = text.rindex(QUESTION), text.rindex(QUESTION) + len(QUESTION)
    while text[first - 1].isspace():  # the template's line break or space before it
        first -= 1
    while text[last : last + 1].isspace() and text[last : last + 2] != " A":  # " ASSISTANT:" is a marker of its own
        last += 1
    ids = [i for i, (a, b) in zip(encoded.input_ids, encoded.offset_mapping) if first <= a and b <= last and a < b]
    ids = [i for i in ids if i not in model.config.zspa_special_token_ids]
    _, (prompt,) = model.visual_and_prompt_tokens(**processor(text=[text], images=[image()], return_tensors="pt"))
    assert torch.equal(prompt, model.get_input_embeddings()(torch.tensor(ids)))


def test_the_system_prompt_does_not_matter(converted):
    choices = [kept(converted, conversation(QUESTION, system)) for system in SYSTEMS]
    assert choices[0] == choices[1] == choices[2]


def test_earlier_turns_do_not_matter(converted):
    earlier = [(OTHER, "two of them"), ("and the red circle?", "left of it")]
    assert kept(converted, conversation(QUESTION, earlier=earlier)) == kept(converted, conversation(QUESTION))


def test_the_order_of_image_and_question_does_not_matter(converted):
    assert kept(converted, conversation(QUESTION)) == kept(converted, conversation(QUESTION, image_first=False))


def test_the_question_matters(converted):
    questions = (QUESTION, OTHER, "Read the sign.", "Describe the picture in detail.")
    assert len({tuple(kept(converted, conversation(q))) for q in questions}) > 1


def test_the_scope_text_listens_to_all(converted):
    model, _ = converted
    model.config.zspa_prompt_scope = "text"
    try:
        assert len({tuple(kept(converted, conversation(QUESTION, system))) for system in SYSTEMS}) > 1
    finally:
        model.config.zspa_prompt_scope = "query"


def test_a_prompt_without_the_template_listens_to_all_its_text(converted):
    model, processor = converted
    token = getattr(processor, "image_token", "<image>")
    plain = processor(text=[f"{token} {QUESTION}"], images=[image()], return_tensors="pt")
    _, (prompt,) = model.visual_and_prompt_tokens(**plain)
    words = processor.tokenizer(f" {QUESTION}", add_special_tokens=False, return_tensors="pt").input_ids[0]
    assert torch.equal(prompt, model.get_input_embeddings()(words))


@pytest.mark.parametrize(
    "ids, wanted",
    [
        ([1, 7, 8, 20, 21, 9], [0, 0, 0, 1, 1, 0]),  # one turn
        ([7, 8, 20, 9, 5, 7, 8, 21, 9], [0, 0, 0, 0, 0, 0, 0, 1, 0]),  # the last of two
        ([1, 7, 8, 20, 21], [0, 0, 0, 1, 1]),  # nothing closes it
        ([7, 20, 21], [1, 1, 1]),  # half a marker opens nothing
        ([20, 7, 8, 9], [1, 1, 1, 1]),  # a turn without text
        ([20, 21], [1, 1]),  # no turn
    ],
)
def test_the_query_is_what_the_last_user_turn_says(ids, wanted):
    ids = torch.tensor([ids])
    found = prompt_mask(ids, ids != 1, "query", [[7, 8]], [[9]])
    assert found[0].long().tolist() == wanted
