"""What a checkpoint or a version of vLLM that cannot be served as promised is told."""

import importlib
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import tiny
import torch
import worker
from conftest import FORK_SERVER, VERSION
from transformers import LlamaConfig, LlavaConfig
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.transformers_utils.config import uses_mrope
from vllm.v1.worker.gpu_worker import Worker

from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.vllm import ARCHITECTURES, internals, touched


def config(**fields):
    made = LlavaConfig(text_config=LlamaConfig(hidden_size=64, num_attention_heads=2))
    made.architectures = ["ZspaLlavaForConditionalGeneration", "LlavaForConditionalGeneration"]
    vars(made).update({"zspa_keep_ratio": 0.1, "zspa_position_ids": "preserve"} | fields)
    return made


def verify(made, hooks=internals.ZspaConfig, overrides=None, **options):
    multimodal = {
        "mm_processor_kwargs": None, "video_pruning_rate": None, "enable_mm_embeds": False, "mm_encoder_only": False,
        "mm_processor_cache_type": "lru",
    }  # fmt: skip
    multimodal |= {name: value for name, value in options.items() if name in multimodal}
    model = {"enable_prompt_embeds": False, "model_impl": "auto", "hf_overrides": overrides} | options
    hooks.verify_and_update_model_config(
        SimpleNamespace(hf_config=made, multimodal_config=SimpleNamespace(**multimodal), **model)
    )
    return made


@pytest.fixture
def changed(monkeypatch):
    """Makes a part of vLLM one that no known version has, and vLLM a version that is not known."""

    def change(part, version="0.99.0"):
        other = {**touched.known(), "digests": touched.known()["digests"] | {part: {"another": ["0.32.0"]}}}
        monkeypatch.setattr(touched, "known", lambda: other)
        monkeypatch.setattr(internals.vllm, "__version__", version)

    return change


def test_the_installed_version_is_as_the_committed_digests_say():
    """Also where its number is not known: its parts are looked at then."""
    assert VERSION in touched.known()["versions"]
    for version in ("0.32.0", "0.32.0+cpu", "0.33.0", "0.99.0"):
        assert not touched.misfits(version)
        for family in filter(lambda family: family.vllm, FAMILIES.values()):
            assert touched.refusal(version, family.model_class) is None, family


def test_all_that_a_family_is_made_of_is_named():
    """Each of vLLM's own classes and functions that its model and its processor come from."""
    for architecture, (module, _) in ARCHITECTURES.items():
        model = getattr(importlib.import_module(module), architecture)
        (stock, *_) = [one for one in model.mro()[1:] if "_processor_factory" in vars(one)]
        factory, made = stock._processor_factory, [stock]
        for one in (factory.processor, *([] if isinstance(factory.processor, type) else [factory.info])):
            made += one.mro() if isinstance(one, type) else [one]
        files = "vllm.model_executor.models."
        parts = {f"{one.__module__.removeprefix(files)}.py:{one.__name__}" for one in made if files in one.__module__}
        assert parts <= {*model.zspa_rests_on}, architecture


@pytest.mark.parametrize(
    "part",
    [
        "v1/worker/cpu_model_runner.py:CPUModelRunner.load_model",
        "model_executor/models/llava.py:LlavaMultiModalProcessor",
    ],
)
def test_a_version_in_which_a_part_is_another_is_refused_by_the_name_of_the_part(changed, part):
    changed(part)
    told = (
        rf"prunes in vLLM 0\.32\.0 and 0\.33\.0; 0\.99\.0 is installed, in which {re.escape(part)} is not what it was"
    )
    with pytest.raises(ValueError, match=f"{told}: install one of those, or .*LlavaFor"):
        verify(config())


def test_what_another_family_rests_on_hurts_nobody(changed):
    changed("model_executor/models/mistral3.py:Mistral3ForConditionalGeneration")
    verify(config())


def test_comments_docstrings_and_blank_lines_are_no_change():
    digest = lambda source, name="f": touched.digest(f"x.py:{name}", lambda file: source)  # noqa: E731
    same = digest("def f(a):\n    return '#' + a\n")
    assert digest('def f(a):  # why\n    """What."""\n\n    # how\n    return \'#\' + a  # so\n') == same
    assert digest("def f(a):\n    return '#' + b\n") != same != digest("@cached\ndef f(a):\n    return '#' + a\n")
    assert digest("class f:\n    def g(self): ...\n", "f.g") and digest("f = 1", "f.g") is None and digest("") is None


def test_positions_are_taken_from_us_where_they_are_kept():
    assert uses_mrope(verify(config())) and uses_mrope(verify(config(zspa_keep_ratio=1.0)))  # requests may prune
    assert not uses_mrope(verify(config(zspa_position_ids="compact")))


def test_what_vllm_checks_of_the_stock_model_is_checked():
    seen = []

    class Stock:
        verify_and_update_model_config = verify_and_update_config = staticmethod(seen.append)

    hooks = type("Hooks", (internals.ZspaConfig,), {"stock": Stock})
    verify(config(), hooks=hooks)
    hooks.verify_and_update_config("the engine's")
    assert len(seen) == 2


def test_a_class_that_cannot_be_imported_is_no_reason_to_serve_the_stock_one(tmp_path):
    base = tiny.build_base("llava", tmp_path / "base")
    folder = convert_checkpoint(base, tmp_path / "zspa")
    with ProcessPoolExecutor(1, FORK_SERVER) as process:
        refusal = process.submit(worker.refusal, str(folder), broken=True).result()
    assert "vLLM cannot import ZspaLlavaForConditionalGeneration, and would serve LlavaForCond" in refusal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mm_processor_kwargs": {"zspa_keep_ratio": 0.5}}, '--hf-overrides \'{"zspa_keep_ratio"'),
        ({"video_pruning_rate": 0.5}, "--video-pruning-rate"),
        ({"enable_mm_embeds": True}, "--enable-mm-embeds"),
        ({"mm_encoder_only": True}, "--mm-encoder-only"),
        ({"mm_processor_cache_type": "shm"}, "--mm-processor-cache-type shm"),
        ({"enable_prompt_embeds": True}, "--enable-prompt-embeds hides what is asked"),
        ({"model_impl": "transformers"}, "--model-impl transformers has no classes that prune"),
    ],
)
def test_options_that_would_go_unheeded_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        verify(config(), **options)


DEFAULT = {"rope_type": "default", "rope_theta": 1e4}
ROTARY = {
    "default": DEFAULT,
    "llama3": DEFAULT | {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": DEFAULT | {"factor": 4.0},
    "dynamic": DEFAULT | {"factor": 2.0},
    "linear": DEFAULT | {"factor": 2.0},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ROTARY)
def test_a_rotary_embedding_is_made_longer_and_turns_as_before(kind, dtype):
    about = ROTARY[kind] | {"rope_type": kind, "original_max_position_embeddings": 32}
    with set_current_vllm_config(VllmConfig()):
        rotary = get_rope(64, 128, rope_parameters=about, dtype=dtype)
        longer = get_rope(64, 300, rope_parameters=about, dtype=dtype)
    rotary.__class__ = type("Another", (type(rotary),), {"__module__": "elsewhere"})  # as some platforms have
    rotary.cos_sin_cache_bf16 = rotary.cos_sin_cache.bfloat16()  # as for AMD's GPUs
    before = rotary.cos_sin_cache.clone()
    model = SimpleNamespace(get_language_model=lambda: torch.nn.ModuleList([rotary]))
    if kind == "linear":
        with pytest.raises(ValueError, match=r"Another cannot be made longer.*compact"):
            internals.lengthen_rotary_embeddings(model, 300)
        return
    internals.lengthen_rotary_embeddings(model, 300)
    assert rotary.cos_sin_cache.shape == (300, 64) and torch.equal(rotary.cos_sin_cache[: len(before)], before)
    assert torch.equal(rotary.cos_sin_cache_bf16, rotary.cos_sin_cache.bfloat16())
    if kind in ("default", "llama3"):  # those of the others depend on how long they are, or never are that long
        assert torch.equal(rotary.cos_sin_cache, longer.cos_sin_cache)


def test_what_empties_vllms_cache_of_images_empties_ours():
    internals.forget_features_with_vllm()
    internals.forget_features_with_vllm()
    runner, worker_ = Mock(), object.__new__(Worker)
    worker_.model_runner = runner
    worker_.reset_encoder_cache()
    runner.reset_encoder_cache.assert_called_once_with()
    runner.get_model().zspa_vision.clear.assert_called_once_with()
    runner.get_model.return_value = object()  # as of another model
    worker_.reset_encoder_cache()


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


def test_a_pruner_that_is_not_installed_or_that_a_checkpoint_names_is_refused():
    named = {"zspa_engine_pruner": "nobodys"}
    with pytest.raises(ValueError, match=r"'nobodys', which no installed package offers as one of hf_zspa\.pruners"):
        verify(config(**named), overrides=named)
    with pytest.raises(ValueError, match=r"config\.json has zspa_engine_pruner, which is for --hf-overrides alone"):
        verify(config(**named))


@pytest.mark.parametrize("family, stock", [("aya_vision", None), ("gemma3", "Gemma3ForConditionalGeneration")])
def test_a_family_that_is_not_served_is_refused_and_not_served_unpruned(tmp_path, family, stock):
    """vLLM would take the second of its architectures, the stock one, if it did not know the first."""
    base = tiny.build_base(family, tmp_path / "base")
    folder = convert_checkpoint(base, tmp_path / "zspa")
    with ProcessPoolExecutor(1, FORK_SERVER) as process:
        refusal = process.submit(worker.refusal, str(folder)).result()
    assert f"hf_zspa does not prune {family} in vLLM: use transformers" in refusal
    hint = f'or serve the stock model unpruned with --hf-overrides \'{{"architectures": ["{stock}"]}}\''
    assert hint in refusal if stock else "serve" not in refusal  # vLLM has no Aya Vision


@pytest.mark.parametrize("hook", [True, False])
def test_another_version_serves_other_models_and_refuses_ours(hook):
    """As in a new version of vLLM, which may have moved what the refusal is hooked into."""
    with ProcessPoolExecutor(1, FORK_SERVER) as process:
        module, warnings = process.submit(worker.registered_in_another_version, hook).result()
    assert module == "vllm.model_executor.models.llava"
    assert (
        any("are served UNPRUNED: hf_zspa prunes in vLLM 0.32.0 and 0.33.0; 0.99.0" in said for said in warnings)
        != hook
    )


def test_without_vllm_the_plug_in_does_nothing():
    code = "import sys; sys.modules['vllm'] = None; import hf_zspa.vllm as p; p.register(); print('quiet')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "quiet\n"
