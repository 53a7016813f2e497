"""What tools read off our classes, and what a user is told, is what it is with the stock ones."""

import inspect
import warnings

import pytest
import tiny
import torch
import transformers
from pairs import QUESTION, pruning_class
from transformers import DynamicCache


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_config_names_the_stock_classs_arguments(family):
    ours, stock = pruning_class(family).config_class, getattr(transformers, tiny.STOCK[family]).config_class
    assert inspect.signature(ours.__init__) == inspect.signature(stock.__init__)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_class_derived_from_the_config_checks_the_fields(family):
    own = type("Own", (pruning_class(family).config_class,), {})
    assert own(zspa_keep_ratio=0.3).zspa_keep_ratio == 0.3
    with pytest.raises(ValueError, match="zspa_keep_ratio is 2"):
        own(zspa_keep_ratio=2)


@pytest.mark.parametrize("call", ["forward", "generate"])
def test_an_argument_that_transformers_gives_up_warns(pair, call):
    ids = pair.inputs([QUESTION])["input_ids"]

    def told(model):
        cache = DynamicCache(config=model.config.get_text_config())
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            getattr(model, call)(input_ids=ids, past_key_values=cache)
        return {str(warning.message).replace("Zspa", "") for warning in caught if warning.category is FutureWarning}

    assert told(pair.model) == told(pair.stock.model)
