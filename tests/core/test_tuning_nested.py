"""What `hf-zspa tune` selects once for several keep ratios."""

import pytest
import torch

from hf_zspa.remote_code.zspa_methods import METHODS
from hf_zspa.tuning.candidates import SETTINGS, setting


@pytest.mark.parametrize("each", [*SETTINGS, setting("zspa", core_ratio=1.0)], ids=str)
def test_settings_that_are_nested_keep_of_fewer_the_first_of_more(each):
    torch.manual_seed(0)
    visual, prompt = [torch.randn(600, 16) + 1], [torch.randn(7, 16)]
    orders = [METHODS[each.method](ratio, **each.settings).in_order(visual, prompt)[0] for ratio in (0.5, 0.1, 0.01)]
    same = all(torch.equal(order, orders[0][: len(order)]) for order in orders)
    assert same == each.nested
