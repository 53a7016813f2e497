"""Everything that vLLM's internals force on us, each thing with its reason, as read in vLLM 0.32.

The rest of the plug-in uses the interfaces that vLLM's own models use.
"""

from collections.abc import Iterable
from typing import Any

import vllm
from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig

SUPPORTED = (0, 32)  # major and minor


def install(architectures: Iterable[str]) -> None:
    """Hooks our checks into the configuration of our models and, on a CPU, mends the runner."""
    for architecture in architectures:
        MODELS_CONFIG_MAP.setdefault(architecture, ZspaConfig)
    from vllm.platforms import current_platform

    if supported(vllm.__version__) and current_platform.is_cpu():
        _let_the_cpu_runner_recompute_positions()


def supported(version: str) -> bool:
    """Whether this version of vLLM is one that the plug-in was made for."""
    numbers = version.split("+")[0].split(".")[:2]
    return [part for part in numbers if part.isdigit()] == [str(number) for number in SUPPORTED]


class ZspaConfig(VerifyAndUpdateConfig):
    """Called by vLLM when the model's configuration is complete and before any worker reads it."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        config = model_config.hf_config
        if not supported(vllm.__version__):
            stock = config.architectures[-1]
            raise ValueError(
                f"hf_zspa prunes in vLLM {'.'.join(map(str, SUPPORTED))}, but {vllm.__version__} is installed: install "
                f'that one, or serve the stock model unpruned with --hf-overrides \'{{"architectures": ["{stock}"]}}\''
            )
        if config.model_type in ("llava", "llava_next") and preserves(config):
            _number_in_sections(config)


def preserves(config: Any) -> bool:
    """Whether kept tokens keep the positions of the full sequence."""
    return getattr(config, "zspa_position_ids", "preserve") == "preserve" and config.zspa_keep_ratio < 1


def _number_in_sections(config: Any) -> None:
    """Makes a LLaVA text model take its positions from us.

    vLLM counts the tokens of a prompt itself, except for models with M-RoPE, whose positions it asks the model for. One
    section as wide as the head is ordinary rotary embedding at positions that are asked for.
    """
    text = config.get_text_config()
    parameters = dict(text.rope_parameters)
    if parameters.get("rope_type", "default") != "default":
        raise ValueError(
            f"with rope_type {parameters['rope_type']!r} vLLM cannot keep the positions that zspa_position_ids "
            '"preserve" promises: serve it with --hf-overrides \'{"zspa_position_ids": "compact"}\''
        )
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    text.rope_parameters = parameters | {"mrope_section": [head // 2, 0, 0]}


def ask_for_positions_after_encoding(vllm_config: Any) -> None:
    """Lets the runner call `recompute_mrope_positions`: only with the encoder's output are the kept tokens known.

    The runner reads after the model is built whether multimodal pruning is on, which for vLLM means that a share of
    each video is dropped by a method of its own. A share too small to drop anything switches it on.
    """
    multimodal = vllm_config.model_config.multimodal_config
    if not multimodal.is_multimodal_pruning_enabled():
        multimodal.video_pruning_rate = 1e-9


def _let_the_cpu_runner_recompute_positions() -> None:
    """The CPU's `load_model` replaces the GPU's and leaves out the lines that read whether pruning is on."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    if hasattr(CPUModelRunner, "_zspa_load_model"):
        return
    CPUModelRunner._zspa_load_model = CPUModelRunner.load_model

    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        self._zspa_load_model(*args, **kwargs)
        if getattr(self.get_model(), "zspa_positions", False):
            self.is_multimodal_pruning_enabled = True

    CPUModelRunner.load_model = load_model
