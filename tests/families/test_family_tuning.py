"""`hf-zspa tune` measures what `generate` would do, in every family."""

import pytest
from forced import assert_placeholders_are_never_answered, assert_scores_are_those_of_generation
from pairs import QUESTION, image
from test_family_oracles import PRUNABLE


@pytest.mark.parametrize("family", PRUNABLE)
def test_scores_of_one_forward_are_those_of_generation(load, family):
    pair = load(family)
    assert_scores_are_those_of_generation(pair.model, pair.inputs([image(1, (120, 90)), QUESTION]))


def test_what_stands_for_images_is_never_answered(other):
    assert_placeholders_are_never_answered(other.model, other.inputs([image(1, (120, 90)), QUESTION]))
