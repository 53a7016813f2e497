"""What the question is, where a family writes text into an image or a video, or in front of it."""

import functools
import re
from types import SimpleNamespace

import pytest
import tiny
import torch
from pairs import QUESTION, image
from test_family_oracles import PRUNABLE

import hf_zspa
from hf_zspa.loading import question_inputs
from hf_zspa.remote_code.zspa_prompt import question_mask

SMALL, LARGE = image(1, (9, 9)), image(1, (260, 240))
VIDEOS = [tiny.random_video(2, 84, 56), tiny.random_video(4, 84, 56)]
# What is still taken for the question: text that is not behind a token that opens an image.
LEFT = {"gemma4": "00:00 ", "kimi_k25": r"00:00:00.000\n", "glm4v": "0", "glm4v_moe": "0", "glm46v": r"0.\d seconds"}
if tiny.transformers_version() < (5, 10):  # whose processor puts the first time outside of the video's marker
    LEFT |= {"qwen3_vl": "<0.0 seconds>", "qwen3_vl_moe": "<0.0 seconds>"}
OTHERS = [family for family in tiny.OTHER_FAMILIES if family not in tiny.FAMILIES]


@pytest.fixture
def asked(load, base_checkpoint):
    """A function from a family and the parts of a prompt to what the pruner takes for the question, for each image or
    video, with the markers and special tokens that are found for a base."""
    return lambda family, *parts: questions(load(family), base(base_checkpoint, family), parts)


@functools.cache
def base(base_checkpoint, family):
    return hf_zspa.from_pretrained(base_checkpoint(family))


def questions(pair, model, parts):
    _, prompts = model.visual_and_prompt_tokens(**pair.inputs([*parts]))
    words = model.get_input_embeddings().weight.detach()
    ids = [[int((words - token).abs().sum(1).argmin()) for token in prompt] for prompt in prompts]
    return {pair.processor.tokenizer.decode(prompt) for prompt in ids}


@pytest.mark.parametrize("family", OTHERS)
def test_the_question_is_what_a_person_asks_whatever_the_images_size(asked, family):
    assert {text.strip() for text in asked(family, SMALL, QUESTION)} == {QUESTION}
    assert {text.strip() for text in asked(family, QUESTION, LARGE)} == {QUESTION}
    between = asked(family, "and", LARGE, QUESTION)
    assert {"".join(text.split()) for text in between} == {"".join(("and" + QUESTION).split())}


@pytest.mark.every_version
@pytest.mark.parametrize("family", PRUNABLE)
def test_the_times_of_a_videos_frames_are_no_part_of_the_question(asked, family):
    for video in VIDEOS:
        for text in asked(family, video, QUESTION):
            assert re.fullmatch(LEFT.get(family, "") + re.escape(QUESTION), text.strip())


@pytest.mark.parametrize(
    ("row", "people"),
    [
        ([1, 10, 2, 11, 2, 9, 9, 3, 12], [10, 12]),
        ([1, 10, 5, 11, 5, 12, 2, 9, 3, 13], [10, 11, 12, 13]),  # 5 marks words, as in prompts that point at things
        ([1, 5, 11, 9, 9], [11]),
        ([1, 2, 9, 3, 2, 11, 2, 9, 3, 12], [12]),
        ([1, 2, 9, 3, 11, 2, 9, 3, 12], [11, 12]),
        ([1, 4, 11, 9, 3, 12], [12]),
        ([1, 10, 2, 20, 21, 9, 2, 7, 8, 9, 2, 11], [10, 11]),  # named by text, the last tile by 7, 8
        ([1, 2, 7, 8, 9, 2, 11, 2, 7, 8, 9, 2, 12], [11, 12]),
    ],
)
def test_what_stands_behind_a_token_that_opens_an_image_is_the_processors(row, people):
    """1 begins the turn, 2 and 4, which the config names, open an image, 3 and 2 close one, 9 is its tokens."""
    ids = torch.tensor([row])
    config = SimpleNamespace(
        zspa_special_token_ids=[2, 3, 4, 5], zspa_image_marker_ids=[4, [2, 7, 8]], zspa_prompt_scope="query",
        zspa_query_start_ids=[[1]], zspa_query_end_ids=None,
    )  # fmt: skip
    spans = [(0, c, c) for c in range(len(row)) if row[c] == 9]
    found = question_mask(ids, ids > 0, ids == 9, spans, config)
    assert ids[found].tolist() == people


@pytest.mark.every_version
@pytest.mark.parametrize(("family", "size"), [("mistral3", (500, 3)), ("qwen3_vl", (2000, 3))])
def test_a_picture_that_a_processor_cannot_use_is_named_by_its_size(load, family, size):
    pair = load(family)
    width, height = size
    with pytest.raises(
        ValueError, match=rf"cannot use a picture of {width} x {height} pixels \(.*\): try another size"
    ):
        question_inputs(pair.model, pair.processor, image(0, size), QUESTION)
