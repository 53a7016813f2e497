"""Everything that vLLM's internals force on us, each thing with its reason, as read in vLLM 0.32.

The rest of the plug-in uses the interfaces that vLLM's own models use. On a GPU vLLM 0.32 has a second model runner,
the default there, which reads the same flag and calls the same methods (`v1/worker/gpu/model_states/mm_pruning.py`);
the plug-in has been run with the first one only, which is the one for CPUs.
"""

import json
from functools import partial
from typing import Any

import torch
import vllm
from vllm import ModelRegistry
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig
from vllm.transformers_utils.config import uses_mrope

from ..checkpoints.code_files import allowed_position_ids, stated
from ..checkpoints.families import FAMILIES
from ..remote_code.zspa_config import CALL_SETTINGS, FIELDS, ZspaConfigMixin, check_fields, check_names, fields_of
from .engine_pruner import take_engine_pruner
from .touched import misfits, refusal
from .vision_cache import DEFAULT_MEGABYTES, check_megabytes


def install() -> None:
    """Hooks our checks into the configuration of our models and, on a CPU, mends the runner."""
    for family in FAMILIES.values():
        if family.model_class not in MODELS_CONFIG_MAP:
            stock = {"stock": MODELS_CONFIG_MAP.get(family.stock, VerifyAndUpdateConfig)}
            MODELS_CONFIG_MAP[family.model_class] = type(family.config_class, (ZspaConfig,), stock)
            MODELS_CONFIG_MAP[family.stock] = type(f"{family.stock}Config", (StockConfig,), stock)
    from vllm.platforms import current_platform

    if not misfits(vllm.__version__) and current_platform.is_cpu():
        _let_the_cpu_runner_recompute_positions()


class ZspaConfig(VerifyAndUpdateConfig):
    """Called by vLLM when the model's configuration is complete and before any worker reads it.

    Attributes:
        stock: what vLLM calls for the stock model.
    """

    stock = VerifyAndUpdateConfig

    @classmethod
    def verify_and_update_config(cls, vllm_config: Any) -> None:
        cls.stock.verify_and_update_config(vllm_config)

    @classmethod
    def verify_and_update_model_config(cls, model_config: Any) -> None:
        config = model_config.hf_config
        family = FAMILIES[config.model_type]
        why: str | None = f"hf_zspa does not prune {config.model_type} in vLLM: use transformers"
        if family.vllm:
            why = refusal(vllm.__version__, family.model_class)
        if why:
            known = ModelRegistry.get_supported_archs()
            stock = [name for name in (family.published_as, config.architectures[-1]) if name in known]
            hint = f"or serve the stock model unpruned with --hf-overrides '{json.dumps({'architectures': stock})}'"
            raise ValueError(f"{why}, {hint}" if stock else why)
        take_engine_pruner(config, getattr(model_config, "hf_overrides", None))
        _complete(config)
        _check_options(model_config)
        if config.zspa_position_ids == "preserve" and not uses_mrope(config):
            _take_positions_from_us(config)
        cls.stock.verify_and_update_model_config(model_config)


class StockConfig(ZspaConfig):
    """Called where vLLM serves a stock model: of a checkpoint's architectures it takes the first whose class it can
    import, and of the others its log has a line."""

    @classmethod
    def verify_and_update_model_config(cls, model_config: Any) -> None:
        ours, *others = model_config.hf_config.architectures
        if others and ours in {family.model_class for family in FAMILIES.values()}:
            raise ValueError(
                f"vLLM cannot import {ours}, and would serve {others[-1]}, which does not prune: its log says why above"
            )
        cls.stock.verify_and_update_model_config(model_config)


def _complete(config: Any) -> None:
    """vLLM reads the config with the stock class, which checks no field of ours and gives none its default."""
    check_names(vars(config))
    for name, default in (FIELDS | {"zspa_vision_cache_mb": DEFAULT_MEGABYTES}).items():
        if not hasattr(config, name):
            setattr(config, name, default)
    family = FAMILIES[config.model_type]
    config.mmtok_tau_text = stated(family, "mmtok_tau_text", ZspaConfigMixin.mmtok_tau_text)
    check_fields(fields_of(config), allowed_position_ids(family))
    check_megabytes(config.zspa_vision_cache_mb)


def _check_options(model_config: Any) -> None:
    """Raises `ValueError` for an option that would go unheeded, or do something else than it says."""
    options = model_config.multimodal_config
    if model_config.enable_prompt_embeds:
        raise ValueError("--enable-prompt-embeds hides what is asked from the selection: leave it out")
    if model_config.model_impl == "transformers":
        raise ValueError("--model-impl transformers has no classes that prune: leave it out")
    given = [name for name in CALL_SETTINGS if name in (options.mm_processor_kwargs or {})]
    if given:
        raise ValueError(
            f"--mm-processor-kwargs has {given[0]}, which is for single requests: give the server's with "
            f"--hf-overrides '{{\"{given[0]}\": …}}'"
        )
    if options.video_pruning_rate:
        raise ValueError("--video-pruning-rate drops tokens of videos a second time: leave it out")
    if options.enable_mm_embeds:
        raise ValueError("--enable-mm-embeds hands embeddings over that cannot be pruned: leave it out")
    if options.mm_processor_cache_type == "shm":
        raise ValueError(
            "--mm-processor-cache-type shm sends an image off before it is known what is asked about it: leave it out"
        )
    if options.mm_encoder_only:
        raise ValueError(
            "--mm-encoder-only loads no embeddings of the prompt, which pruning compares with: leave it out"
        )


def _take_positions_from_us(config: Any) -> None:
    """Makes vLLM ask a model with one row of positions for them.

    vLLM counts the tokens of a prompt itself, except for models with M-RoPE, whose positions it asks the model for. It
    takes a model for one of these by this attribute; rotary embeddings are built by `rope_parameters` alone.
    """
    config.get_text_config().mrope_section = [0, 0, 0]


def ask_for_positions_after_encoding(vllm_config: Any) -> None:
    """Lets the runner call `recompute_mrope_positions`: only with the encoder's output are the kept tokens known.

    The runner reads after the model is built whether multimodal pruning is on, which for vLLM means that a share of
    each video is dropped by a method of its own. Here it is on, and no share is.
    """
    object.__setattr__(vllm_config.model_config.multimodal_config, "is_multimodal_pruning_enabled", partial(bool, 1))


def lengthen_rotary_embeddings(model: Any, positions: int) -> None:
    """Makes the tables of a model's rotary embeddings so long that no token stands behind their end, where kernels read
    whatever is there. vLLM makes them as long as prompt and answer together, but kept tokens have positions of the
    unpruned prompt, and an answer goes on from there.

    Raises:
        ValueError: one cannot be made longer, because it turns otherwise than by a multiple of the position.
    """
    package = rotary_embedding.__name__
    for rotary in model.get_language_model().modules():
        of_vllm = any(kind.__module__.startswith(package) for kind in type(rotary).__mro__)
        if not (of_vllm and hasattr(rotary, "rotary_dim")):
            continue
        cannot = ValueError(
            f"vLLM's {type(rotary).__name__} cannot be made longer, as positions of the unpruned prompt need: "
            'serve it with --hf-overrides \'{"zspa_position_ids": "compact"}\''
        )
        table: torch.Tensor | None = getattr(rotary, "cos_sin_cache", None)
        if table is None:
            raise cannot
        if len(table) >= positions:
            continue
        longer = _turned(rotary, positions).to(table)
        if _far_apart(longer[: len(table)], table):
            raise cannot
        rotary.register_buffer("cos_sin_cache", longer, persistent=False)
        if getattr(rotary, "cos_sin_cache_bf16", None) is not None:  # a copy for kernels of AMD's GPUs
            rotary.cos_sin_cache_bf16 = longer.bfloat16()


def _far_apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tables differ by more than rounding."""
    return bool((one - other).abs().max() > 4 * torch.finfo(other.dtype).eps)


def _turned(rotary: Any, positions: int) -> torch.Tensor:
    """The table `(positions, 2k)` of cosines and sines, float32, of the frequencies that a rotary embedding makes its
    own of."""
    made: list[torch.Tensor] = []
    compute = rotary._compute_inv_freq

    def noted(*args: Any) -> torch.Tensor:
        made.append(compute(*args))
        return made[-1]

    rotary._compute_inv_freq = noted
    try:
        scale = rotary._compute_cos_sin_cache()[0, 0]  # of the cosine of 0
    finally:
        del rotary._compute_inv_freq
    angles = torch.outer(torch.arange(positions, dtype=torch.float, device=made[0].device), made[0])
    return torch.cat([angles.cos(), angles.sin()], 1) * scale


def forget_features_with_vllm() -> None:
    """Lets what empties vLLM's cache of encoded images empty ours: weights may have changed by another way than
    `load_weights`."""
    from vllm.v1.worker.gpu_worker import Worker  # the CPU's is one, too

    if hasattr(Worker, "_reset_encoder_cache_of_vllm"):
        return
    Worker._reset_encoder_cache_of_vllm = Worker.reset_encoder_cache

    def reset_encoder_cache(self: Any) -> None:
        self._reset_encoder_cache_of_vllm()
        vision = getattr(self.model_runner.get_model(), "zspa_vision", None)
        if vision is not None:
            vision.clear()

    Worker.reset_encoder_cache = reset_encoder_cache


def _let_the_cpu_runner_recompute_positions() -> None:
    """The CPU's `load_model` replaces the GPU's and leaves out the lines that read whether pruning is on."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    if hasattr(CPUModelRunner, "_load_model_of_vllm"):
        return
    CPUModelRunner._load_model_of_vllm = CPUModelRunner.load_model

    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        self._load_model_of_vllm(*args, **kwargs)
        if getattr(self.get_model(), "zspa_positions", False):
            self.is_multimodal_pruning_enabled = True

    CPUModelRunner.load_model = load_model
