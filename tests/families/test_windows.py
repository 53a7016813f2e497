"""Families whose text model looks no further than a window in some layers: it counts the tokens that are there."""

import pairs
import pytest
import tiny
import torch
from pairs import CASES, CORE, KEEP
from test_family_oracles import CACHES, CLOSE

WINDOWS = [
    family
    for family in ("gemma3", "gemma4", "aya_vision", "cohere2_vision", "mistral3")
    if family in tiny.OTHER_FAMILIES
]


@pytest.fixture(scope="module", params=sorted(WINDOWS))
def narrow(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow") / request.param
    return pairs.load(request.param, tiny.build_base(request.param, folder, text={"sliding_window": 8}))


@pytest.mark.every_version
@pytest.mark.parametrize("cache", CACHES)
def test_a_window_shorter_than_the_pruned_prompt_equals_the_short_oracle(narrow, cache):
    inputs = narrow.inputs(*CASES["unequal images and questions"])
    keep, _ = narrow.stock.keep(inputs, KEEP, CORE)
    assert int(keep.sum(1).min()) > 8
    tokens, scores = narrow.stock.generate_short(inputs, keep, 4)
    assert (scores[:, 0] - narrow.stock.generate(inputs, keep, 1)[1][:, 0]).abs().max() > 0.01, "not what is masked"
    if tiny.transformers_version() < (5, 19) and cache == "static":  # 5.16 cannot, for some, pruned or not
        try:
            narrow.stock.model.generate(**inputs, **narrow.greedy | CACHES[cache])
        except IndexError as error:
            with pytest.raises(IndexError, match="is out of bounds"):
                narrow.model.generate(**inputs, **narrow.greedy | CACHES[cache])
            assert "is out of bounds" in str(error)
            return
    out = narrow.model.generate(
        **inputs, **narrow.greedy | {"max_new_tokens": 4} | CACHES[cache], return_dict_in_generate=True,
        output_logits=True,
    )  # fmt: skip
    visible = scores > -1e8
    torch.testing.assert_close(torch.stack(out.logits, 1)[visible], scores[visible], **CLOSE)
    assert torch.equal(out.sequences[:, -4:], tokens)
