"""A checkpoint as 0.1.0 made it, with that version's code: later versions load it, tell it apart and make it anew."""

import pytest
import torch
from released import PROMPT, of_0_1_0
from transformers import AutoModelForImageTextToText

from hf_zspa.checkpoints.code_files import DIGESTS, code_digests
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.files import read_json
from hf_zspa.checkpoints.inspect import inspect_checkpoint
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.checkpoints.shipped import SHIPPED
from hf_zspa.checkpoints.verify import verify_checkpoint
from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.models.given import open_image
from hf_zspa.scenes import EXAMPLES


@pytest.fixture(params=["embedded", "embedded-qwen"])  # what 0.1.0 had
def name(request):
    return request.param


@pytest.fixture
def earlier(name, tmp_path):
    return of_0_1_0(name, tmp_path)


def test_its_code_and_config_are_those_of_the_release(earlier):
    """The digests are those that 0.1.0 itself has written."""
    config = read_json(earlier / "config.json")
    assert config["zspa_version"] == "0.1.0"
    assert config[DIGESTS] == code_digests(earlier.glob("*.py"))


def test_it_loads_prunes_and_answers_as_the_current_version(name, earlier):
    model, found = AutoModelForImageTextToText.from_pretrained(
        earlier, trust_remote_code=True, output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    current, processor = load_zspa(checkpoint_folder(name))
    inputs = question_inputs(current, processor, open_image(EXAMPLES / "relation.png"), PROMPT)
    (kept,) = model.select_visual_tokens(**inputs)
    (expected,) = current.select_visual_tokens(**inputs)
    assert torch.equal(kept, expected)
    columns = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: columns.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    whole = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert len(kept) == round(0.1 * whole) and columns[0] == inputs["input_ids"].shape[1] - whole + len(kept)
    assert torch.equal(answer, current.generate(**inputs, max_new_tokens=4, do_sample=False))


def test_inspect_reads_its_fields(name, earlier):
    found, current = inspect_checkpoint(earlier), inspect_checkpoint(checkpoint_folder(name))
    assert found.converted and found.model_type == current.model_type
    assert found.fields == current.fields and found.turn_starts == current.turn_starts


def test_verify_says_which_version_wrote_it_and_nothing_worse(earlier):
    found = verify_checkpoint(earlier)
    assert not found.passed and found.version == "0.1.0" and found.problems == []
    assert "was written by hf_zspa 0.1.0" in found.other_version


def test_its_code_is_not_run_unasked(earlier):
    with pytest.raises(
        ValueError, match=r"is not run before it passes hf-zspa verify: it was written by hf_zspa 0\.1\.0"
    ):
        load_zspa(earlier)


def test_a_conversion_over_it_has_the_current_code(name, earlier):
    assert verify_checkpoint(convert_checkpoint(SHIPPED[name], earlier, force=True)).passed
