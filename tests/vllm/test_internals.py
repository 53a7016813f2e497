"""What a checkpoint or a version of vLLM that cannot be served as promised is told."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from transformers import LlamaConfig, LlavaConfig

from hf_zspa.vllm import internals


def config(**fields):
    made = LlavaConfig(text_config=LlamaConfig(hidden_size=64, num_attention_heads=2))
    made.architectures = ["ZspaLlavaForConditionalGeneration", "LlavaForConditionalGeneration"]
    vars(made).update({"zspa_keep_ratio": 0.1, "zspa_position_ids": "preserve"} | fields)
    return made


def verify(made):
    internals.ZspaConfig.verify_and_update_model_config(SimpleNamespace(hf_config=made))
    return made


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.32.0", True), ("0.32.7+cpu", True), ("0.31.0", False), ("0.33.0", False), ("1.32.0", False), ("dev", False)],
)
def test_supported_versions(version, good):
    assert internals.supported(version) == good


def test_another_version_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(internals.vllm, "__version__", "0.33.1")
    with pytest.raises(
        ValueError, match=r"in vLLM 0\.32, but 0\.33\.1 is installed: install that one, or .*\"LlavaFor"
    ):
        verify(config())


def test_preserved_positions_become_a_single_section():
    assert verify(config()).text_config.rope_parameters["mrope_section"] == [16, 0, 0]
    assert "mrope_section" not in verify(config(zspa_position_ids="compact")).text_config.rope_parameters
    assert "mrope_section" not in verify(config(zspa_keep_ratio=1.0)).text_config.rope_parameters


def test_rotary_embeddings_that_cannot_keep_positions_are_refused_with_the_override():
    made = config()
    made.text_config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(
        ValueError, match=r"rope_type 'linear' .* --hf-overrides '{\"zspa_position_ids\": \"compact\"}'"
    ):
        verify(made)


def test_without_vllm_the_plug_in_does_nothing():
    code = "import sys; sys.modules['vllm'] = None; import hf_zspa.vllm as p; p.register(); print('quiet')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "quiet\n"
