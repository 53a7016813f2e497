"""What the question is, where a family writes text into an image or a video: that text is none of it."""

import pytest
import tiny
from pairs import QUESTION, image
from test_family_oracles import PRUNABLE


@pytest.mark.every_version
@pytest.mark.parametrize("family", PRUNABLE)
def test_the_times_of_a_videos_frames_are_no_part_of_the_question(load, family):
    pair = load(family)
    _, (few,) = pair.model.visual_and_prompt_tokens(**pair.inputs([tiny.random_video(2, 84, 56), QUESTION]))
    _, (many,) = pair.model.visual_and_prompt_tokens(**pair.inputs([tiny.random_video(4, 84, 56), QUESTION]))
    assert len(few) == len(many) > 0


@pytest.mark.every_version
@pytest.mark.parametrize("family", [family for family in tiny.OTHER_FAMILIES if tiny.RECIPES[family].tiled])
def test_what_stands_between_tiles_is_no_part_of_the_question(load, family):
    pair = load(family)
    _, (few,) = pair.model.visual_and_prompt_tokens(**pair.inputs([image(1, (200, 40)), QUESTION]))
    _, (many,) = pair.model.visual_and_prompt_tokens(**pair.inputs([image(1, (260, 240)), QUESTION]))
    assert len(few) == len(many) > 0
