"""The same checkpoints in vLLM: installed beside it, this plug-in makes a zspa checkpoint prune when it is served.

vLLM finds `register` through the entry point `vllm.general_plugins` and calls it in each of its processes. Without the
plug-in it serves the stock class that the checkpoint's `architectures` names second, unpruned.
"""

import importlib.util
import logging

from ..checkpoints.families import FAMILIES
from .touched import misfits, refusal

ARCHITECTURES = {  # ours → its module, and vLLM's name of the stock class
    family.model_class: (f"hf_zspa.vllm.{family.vllm}", family.stock) for family in FAMILIES.values() if family.vllm
}
UNSERVED = [family.model_class for family in FAMILIES.values() if not family.vllm]


def register() -> None:
    """Tells vLLM which classes serve zspa checkpoints; they are imported only when one is served.

    In a version that the plug-in was not made for our names stand for the stock classes, so that a zspa checkpoint
    comes as far as the check that refuses it; other models are served as ever.
    """
    if importlib.util.find_spec("vllm") is None:
        return
    import vllm
    from vllm import ModelRegistry

    good = not misfits(vllm.__version__)
    for architecture, (module, stock) in ARCHITECTURES.items():
        if architecture not in ModelRegistry.get_supported_archs():
            if good:
                ModelRegistry.register_model(architecture, f"{module}:{architecture}")
            elif stock in ModelRegistry.models:
                ModelRegistry.models[architecture] = ModelRegistry.models[stock]
    try:
        from . import internals

        internals.install()
        for architecture in UNSERVED:  # any class of text will do: the check refuses them before one is made
            if architecture not in ModelRegistry.get_supported_archs():
                ModelRegistry.register_model(architecture, "vllm.model_executor.models.llama:LlamaForCausalLM")
    except Exception:
        if good:
            raise
        logging.getLogger("vllm.hf_zspa").warning("zspa checkpoints are served UNPRUNED: %s", refusal(vllm.__version__))
