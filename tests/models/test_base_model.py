"""The base model inside the generating one, which trainers and embedders call themselves."""

import copy

import pytest
import torch
from pairs import CASES, CORE, KEEP, OTHER, QUESTION
from test_forward import CLOSE, stock_forward_inputs

from hf_zspa import ZspaPruner


@pytest.mark.parametrize("case", CASES)
def test_its_hidden_states_are_those_of_the_generating_model_at_every_input_position(pair, case):
    """They are what the head makes its logits of, which are held to the oracle."""
    inputs = stock_forward_inputs(pair, pair.inputs(*CASES[case]))
    with torch.no_grad():
        hidden = pair.model.model(**inputs).last_hidden_state
        logits = pair.model(**inputs).logits
    assert hidden.shape[:2] == inputs["input_ids"].shape
    torch.testing.assert_close(pair.model.get_output_embeddings()(hidden), logits, **CLOSE)


def test_what_it_is_called_with_is_pruned_unless_it_is_told_not_to(pair):
    inputs = pair.inputs(*CASES["one image"])
    lengths = []
    handle = pair.model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        with torch.no_grad():
            pair.model.model(**inputs)
            pair.model.model(**inputs, zspa_keep_ratio=0.5)
            pair.model.model(**inputs, visual_token_pruner=ZspaPruner(0.2))
            full = pair.model.model(**inputs, zspa_keep_ratio=1.0).last_hidden_state
    finally:
        handle.remove()
    text = inputs["input_ids"].shape[1] - len(pair.stock.features(inputs)[0])
    budgets = [ZspaPruner(ratio).budget(len(pair.stock.features(inputs)[0])) for ratio in (KEEP / 100, 0.5, 0.2, 1.0)]
    assert lengths == [text + budget for budget in budgets]
    with torch.no_grad():
        assert torch.equal(full, pair.stock.model.model(**inputs).last_hidden_state)
        text_alone = pair.inputs([QUESTION], [OTHER])
        stock = pair.stock.model.model(**text_alone).last_hidden_state
        assert torch.equal(pair.model.model(**text_alone).last_hidden_state, stock)


def test_a_misspelt_setting_is_refused(pair):
    inputs = pair.inputs(*CASES["one image"])
    with pytest.raises(TypeError, match="zspa_keep is no setting of a call: did you mean zspa_keep_ratio"):
        pair.model.model(**inputs, zspa_keep=0.5)


def test_its_cache_continues(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    token = inputs["input_ids"][:, -1:]
    with torch.no_grad():
        past = pair.model.model(**inputs, use_cache=True).past_key_values
        hidden = pair.model.model(input_ids=token, past_key_values=past).last_hidden_state
        past = pair.model(**inputs, use_cache=True).past_key_values
        logits = pair.model(input_ids=token, past_key_values=past).logits
    torch.testing.assert_close(pair.model.get_output_embeddings()(hidden), logits, **CLOSE)


def test_gradients_pass_through_it(pair):
    model = copy.deepcopy(pair.model).train()
    inputs = pair.inputs(*CASES["unequal images and questions"])
    model.model(**inputs).last_hidden_state.sum().backward()
    of_vision = [p.grad for n, p in model.named_parameters() if "vision" in n or "visual" in n]
    assert any(g is not None and g.abs().sum() > 0 for g in of_vision)


def test_its_outputs_have_the_kept_features(pair):
    inputs = pair.inputs(*CASES["one image"])
    with torch.no_grad():
        outputs = pair.model(**inputs)
    kept = torch.cat([f[i] for f, i in zip(pair.stock.features(inputs), pair.stock.keep(inputs, KEEP, CORE)[1])])
    if hasattr(outputs, "image_outputs"):  # a field of the late stock classes' outputs
        torch.testing.assert_close(torch.cat(list(outputs.image_outputs.pooler_output)), kept, **CLOSE)
    elif pair.family != "qwen2_5_vl":  # whose stock class gives none
        torch.testing.assert_close(torch.cat(list(outputs.image_hidden_states)).reshape(kept.shape), kept, **CLOSE)


def test_it_runs_by_itself(pair):
    inputs = pair.inputs(*CASES["one image"])
    alone = type(pair.model.model)(pair.model.config).eval()
    alone.load_state_dict(pair.model.model.state_dict())
    with torch.no_grad():
        expected = pair.model.model(**inputs).last_hidden_state
        assert torch.equal(alone(**inputs).last_hidden_state, expected)
