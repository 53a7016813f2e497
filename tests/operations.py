"""What torch does while something runs: what would wait for a GPU, and what is started there."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What waits for a GPU: operators whose results have a size that depends on values, and looking at values.
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique", "_unique2", "unique_dim",
    "unique_consecutive", "is_nonzero",
}  # fmt: skip
LOOKS = {
    "__array__", "__bool__", "__float__", "__format__", "__index__", "__int__", "allclose", "cpu", "item", "numpy",
    "tolist",
}  # fmt: skip
# Operators that start nothing on a GPU.
FREE = {
    "_unsafe_view", "alias", "detach", "diagonal", "empty", "empty_like", "expand", "lift_fresh", "permute", "select",
    "slice", "split", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
}  # fmt: skip


class Operations(TorchDispatchMode):
    """Lists what would wait for a GPU and what would start something there, and the largest tensor made."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.launches: list[str] = []
        self.largest = 0
        self._looks = _Looks(self.waits)

    def __enter__(self):
        self._looks.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._looks.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        _, name, overload = str(function).split(".")
        by_values = name in WAITS or (name, overload) == ("repeat_interleave", "Tensor")
        if by_values or (name in ("index", "index_put", "index_put_") and _by_mask(args[1])):
            self.waits.append(name)
        if name not in FREE:
            self.launches.append(name)
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:  # made, not viewed
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


class _Looks(TorchFunctionMode):
    """Lists the calls that look at a tensor's values: on a CPU they reach no operator."""

    def __init__(self, waits: list[str]):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        to_cpu = name == "to" and "cpu" in [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, str)]
        if name in LOOKS or to_cpu:
            self.waits.append(name)
        return function(*args, **kwargs or {})


def _by_mask(indices) -> bool:
    return any(i is not None and i.dtype == torch.bool for i in indices)
