"""The methods beside the paper's, as a checkpoint has them: in its config, for one call, and refused where not read."""

import json
from pathlib import Path

import pytest
import torch
from pairs import OTHER, QUESTION, image
from transformers import AutoModelForImageTextToText

import hf_zspa
from hf_zspa.remote_code.zspa_methods import METHODS

SETTINGS = {
    "weighted": {"zspa_relevance_weight": 0.5, "zspa_pooling": "none"},
    "dpp": {"zspa_relevance_weight": -0.75, "zspa_centre": True},
    "mmtok": {"zspa_centre": True},
}
ROWS = [[image(1), QUESTION], [image(2, (56, 140)), OTHER]]


def chosen(pair, inputs, method: str) -> torch.Tensor:
    """Which columns stay, by the method's pruner on the stock model's features, as `oracle.Stock.keep` has it."""
    tau = {"tau_text": pair.model.config.mmtok_tau_text} if method == "mmtok" else {}
    settings = {name.removeprefix("zspa_"): value for name, value in SETTINGS[method].items()}
    pruner = METHODS[method](0.3, **settings, **tau)
    visual, prompts = pair.model.visual_and_prompt_tokens(**inputs)
    keep = inputs["attention_mask"].bool()
    spots = torch.isin(inputs["input_ids"], torch.tensor(pair.stock.placeholder_ids)).nonzero()
    for columns, kept in zip(spots.split([len(v) for v in visual]), pruner(visual, prompts)):
        keep[columns[:, 0], columns[:, 1]] = False
        keep[columns[kept, 0], columns[kept, 1]] = True
    return keep


@pytest.mark.parametrize("method", SETTINGS)
def test_a_call_and_a_config_choose_as_the_methods_pruner_does(pair, method):
    inputs = pair.inputs(*ROWS)
    expected, _ = pair.stock.generate(inputs, chosen(pair, inputs, method), steps=6)
    assert torch.equal(pair.generate(inputs, zspa_method=method, **SETTINGS[method]), expected)
    fields = {name.removeprefix("zspa_"): value for name, value in SETTINGS[method].items()}
    with pair.fields(method=method, **fields):
        assert torch.equal(pair.generate(inputs), expected)
        kept = pair.model.select_visual_tokens(**inputs)
        again = pair.model.select_visual_tokens(**inputs, zspa_method=method, **SETTINGS[method])
        assert all(map(torch.equal, kept, again))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({"zspa_method": "weighted", "zspa_core_ratio": 0.4}, "zspa_core_ratio is not read by the method 'weighted'"),
        ({"zspa_relevance_weight": 0.4}, "zspa_relevance_weight is not read by the method 'zspa'"),
        ({"zspa_method": "mmtok", "zspa_pooling": "max"}, "zspa_pooling is not read by the method 'mmtok'"),
        ({"zspa_method": "weigthed"}, "zspa_method is 'weigthed', but must be 'zspa' or 'weighted'"),
        ({"zspa_method": "dpp", "zspa_relevance_weight": -2}, r"zspa_relevance_weight is -2, but must be .* \[-1, 1\]"),
        ({"zspa_centre": "yes"}, "zspa_centre is 'yes', but must be True or False"),
        ({"zspa_method": "weighted", "visual_token_pruner": hf_zspa.DppPruner(0.2)}, "visual_token_pruner or zspa_met"),
    ],
)
def test_a_setting_that_the_method_does_not_read_or_is_out_of_range_is_refused(pair, call, named):
    inputs = pair.inputs([image(), QUESTION])
    for run in (pair.generate, lambda inputs, **call: pair.model(**inputs, **call)):
        with pytest.raises(ValueError, match=named):
            run(inputs, **call)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_method_travels_in_the_checkpoint(base_checkpoint, tmp_path, family):
    fields = {"zspa_method": "weighted", "zspa_relevance_weight": 0.5, "zspa_pooling": "none", "zspa_centre": True}
    folder = hf_zspa.convert_checkpoint(base_checkpoint(family), tmp_path / "out", **fields)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    model.save_pretrained(tmp_path / "saved")
    for place in (folder, tmp_path / "saved"):
        config = json.loads((Path(place) / "config.json").read_text())
        assert {name: config[name] for name in fields} == fields
    pruner = model.pruner_for_call()
    assert (pruner.relevance_weight, pruner.pooling, pruner.centre) == (0.5, "none", True)
    assert "a method of hf_zspa that follows ZSPAPrune" in (folder / "README.md").read_text()
    assert hf_zspa.inspect_checkpoint(folder).fields["zspa_method"] == "weighted"


def test_mmtok_has_the_temperature_that_its_authors_have_for_a_family(pair):
    expected = 0.01 if pair.family == "qwen2_5_vl" else 0.02
    assert pair.model.pruner_for_call(zspa_method="mmtok").tau_text == expected
