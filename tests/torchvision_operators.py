"""Lets a torchvision import whose compiled operators do not load on this machine; what the processors need of it works.

Imported at the start of a process, by a line in a .pth file where a process starts others, it waits for torchvision.
"""

import importlib.abc
import importlib.machinery
import sys
from contextlib import suppress
from pathlib import Path


class _Before(importlib.abc.MetaPathFinder):
    """Declares the operators that torchvision describes when it is imported, just before that."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare()
        return None


def declare() -> None:
    import torch

    if _own_load():
        return
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _own_load() -> bool:
    """Whether torchvision's own operators load, which describe themselves: twice would end the process."""
    import torch

    spec = importlib.machinery.PathFinder.find_spec("torchvision")
    for folder in spec.submodule_search_locations if spec and spec.submodule_search_locations else ():
        for library in sorted(Path(folder).glob("_C*.so")):
            with suppress(OSError):
                torch.ops.load_library(library)
                return True
    return False


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _Before())
