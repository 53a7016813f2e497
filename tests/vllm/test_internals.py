"""What a checkpoint or a version of vLLM that cannot be served as promised is told."""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import tiny
import worker
from conftest import FORK_SERVER
from transformers import LlamaConfig, LlavaConfig

from hf_zspa import vllm as plugin
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.vllm import internals


def config(**fields):
    made = LlavaConfig(text_config=LlamaConfig(hidden_size=64, num_attention_heads=2))
    made.architectures = ["ZspaLlavaForConditionalGeneration", "LlavaForConditionalGeneration"]
    vars(made).update({"zspa_keep_ratio": 0.1, "zspa_position_ids": "preserve"} | fields)
    return made


def verify(made, **options):
    options = {"mm_processor_kwargs": None, "video_pruning_rate": None, "enable_mm_embeds": False} | options
    options = SimpleNamespace(**({"mm_encoder_only": False} | options))
    internals.ZspaConfig.verify_and_update_model_config(SimpleNamespace(hf_config=made, multimodal_config=options))
    return made


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.32.0", True), ("0.32.7+cpu", True), ("0.31.0", False), ("0.33.0", False), ("1.32.0", False), ("dev", False)],
)
def test_supported_versions(version, good):
    assert plugin.supported(version) == good


def test_another_version_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(internals.vllm, "__version__", "0.33.1")
    with pytest.raises(
        ValueError, match=r"in vLLM 0\.32, but 0\.33\.1 is installed: install that one, or .*\"LlavaFor"
    ):
        verify(config())


def test_preserved_positions_become_a_single_section():
    assert verify(config()).text_config.rope_parameters["mrope_section"] == [16, 0, 0]
    assert "mrope_section" not in verify(config(zspa_position_ids="compact")).text_config.rope_parameters
    assert "mrope_section" in verify(config(zspa_keep_ratio=1.0)).text_config.rope_parameters  # requests may prune


def test_rotary_embeddings_that_cannot_keep_positions_are_refused_with_the_override():
    made = config()
    made.text_config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(
        ValueError, match=r"rope_type 'linear' .* --hf-overrides '{\"zspa_position_ids\": \"compact\"}'"
    ):
        verify(made)
    made.zspa_keep_ratio = 1.0  # as the stock model, whose requests are refused where they ask for pruning
    assert "rope_type 'linear'" in internals.only_unpruned(verify(made)) and not internals.preserves(made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mm_processor_kwargs": {"zspa_keep_ratio": 0.5}}, '--hf-overrides \'{"zspa_keep_ratio"'),
        ({"video_pruning_rate": 0.5}, "--video-pruning-rate"),
        ({"enable_mm_embeds": True}, "--enable-mm-embeds"),
        ({"mm_encoder_only": True}, "--mm-encoder-only"),
    ],
)
def test_options_that_would_go_unheeded_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        verify(config(), **options)


def test_fields_are_checked_and_those_that_lack_have_their_defaults():
    made = config()
    del made.zspa_keep_ratio
    assert verify(made).zspa_keep_ratio == 0.1 and made.zspa_core_ratio == 0.2 and made.zspa_vision_cache_mb == 128
    with pytest.raises(ValueError, match="zspa_core_ratio is 2"):
        verify(config(zspa_core_ratio=2))
    with pytest.raises(ValueError, match="zspa_vision_cache_mb is -1"):
        verify(config(zspa_vision_cache_mb=-1))
    with pytest.raises(ValueError, match="zspa_keep_raito, did you mean zspa_keep_ratio"):
        verify(config(zspa_keep_raito=0.5))


def test_a_family_that_is_not_served_is_refused_and_not_served_unpruned(tmp_path):
    """vLLM would take the second of its architectures, the stock one, if it did not know the first."""
    base = tiny.build_base("qwen2_vl", tmp_path / "base")
    folder = convert_checkpoint(base, tmp_path / "zspa")
    with ProcessPoolExecutor(1, FORK_SERVER) as process:
        refusal = process.submit(worker.refusal, str(folder)).result()
    assert "hf_zspa does not prune qwen2_vl in vLLM: use transformers, or serve" in refusal
    assert '["Qwen2VLForConditionalGeneration"]' in refusal


@pytest.mark.parametrize("hook", [True, False])
def test_another_version_serves_other_models_and_refuses_ours(hook):
    """As in a new version of vLLM, which may have moved what the refusal is hooked into."""
    with ProcessPoolExecutor(1, FORK_SERVER) as process:
        module, warnings = process.submit(worker.registered_in_another_version, hook).result()
    assert module == "vllm.model_executor.models.llava"
    assert any("are served UNPRUNED: hf_zspa prunes in vLLM 0.32, but 0.33.1" in said for said in warnings) != hook


def test_without_vllm_the_plug_in_does_nothing():
    code = "import sys; sys.modules['vllm'] = None; import hf_zspa.vllm as p; p.register(); print('quiet')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "quiet\n"
