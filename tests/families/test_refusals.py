"""What would go past pruning: features that were encoded elsewhere."""

import pytest
import torch
from pairs import CASES


@pytest.mark.every_version
def test_features_in_forms_that_cannot_be_pruned_are_refused_and_not_passed_by(other):
    inputs = other.inputs(*CASES["one image"])
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    features = torch.cat(other.stock.features(inputs))[None]
    for name in ("image_hidden_states", "mm_encoder_outputs"):
        for call in (other.generate, lambda given: other.model(**given), lambda given: other.model.model(**given)):
            with pytest.raises((ValueError, TypeError), match=f"{name}"):
                call(text | {name: features})
