"""`hf-zspa tune` measures what `generate` would do."""

import pytest
from forced import assert_scores_are_those_of_generation
from pairs import QUESTION, image


@pytest.mark.parametrize("prompt", [[image(), QUESTION], [image(1, (90, 60)), image(2), QUESTION]])
def test_scores_of_one_forward_are_those_of_generation(pair, prompt):
    assert_scores_are_those_of_generation(pair.model, pair.inputs(prompt))
