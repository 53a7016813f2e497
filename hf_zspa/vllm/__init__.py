"""The same checkpoints in vLLM: installed beside it, this plug-in makes a zspa checkpoint prune when it is served.

vLLM finds `register` through the entry point `vllm.general_plugins` and calls it in each of its processes. Without the
plug-in it serves the stock class that the checkpoint's `architectures` names second, unpruned.
"""

import importlib.util

ARCHITECTURES = {
    "ZspaLlavaForConditionalGeneration": "hf_zspa.vllm.llava",
    "ZspaLlavaNextForConditionalGeneration": "hf_zspa.vllm.llava",
    "ZspaQwen2_5_VLForConditionalGeneration": "hf_zspa.vllm.qwen2_5_vl",
}


def register() -> None:
    """Tells vLLM which classes serve zspa checkpoints; they are imported only when one is served."""
    if importlib.util.find_spec("vllm") is None:
        return
    from vllm import ModelRegistry

    from . import internals

    for architecture, module in ARCHITECTURES.items():
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, f"{module}:{architecture}")
    internals.install(ARCHITECTURES)
