"""From which version of transformers on a family prunes, and that it says so before."""

import pairs
import pytest
import tiny
import torch
from pairs import CASES

from hf_zspa.remote_code import zspa_compat


@pytest.mark.every_version
@pytest.mark.parametrize("family", (*tiny.FAMILIES, *tiny.OTHER_FAMILIES))
def test_the_class_says_from_which_version_on_it_is_tested(family):
    first = pairs.pruning_class(family).config_class.first_transformers
    assert tuple(map(int, first.split("."))) == tiny.RECIPES[family].since


def test_an_older_version_is_refused_by_name_and_runs_unpruned(other, monkeypatch):
    inputs = other.inputs(*CASES["one image"])
    monkeypatch.setattr(zspa_compat, "__version__", "4.56.2")
    for call in (other.generate, lambda inputs: other.model(**inputs), lambda inputs: other.model.model(**inputs)):
        with pytest.raises(ValueError, match=r"transformers 4\.56\.2 cannot prune"):
            call(inputs)
    stock = other.stock.model.generate(**inputs, **other.greedy)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(other.generate(inputs, zspa_keep_ratio=1.0), stock)
