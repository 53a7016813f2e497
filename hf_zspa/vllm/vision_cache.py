"""Features of images that were encoded before, so that another question about an image needs no vision tower.

vLLM's own cache of encoder outputs knows an image together with its question, because what is kept depends on both.
This one stands before the selection and knows the image alone. Answers do not depend on what it holds: with it or
without, the same tokens are kept. All ranks of a tensor parallel model see the same images in the same order, so they
find and forget the same ones.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DEFAULT_MEGABYTES = 128  # `zspa_vision_cache_mb` of the config, as in --hf-overrides; 0 switches it off


def check_megabytes(megabytes: object) -> None:
    """Raises `ValueError` where this is no size of a cache."""
    if isinstance(megabytes, bool) or not isinstance(megabytes, (int, float)) or not megabytes >= 0:
        raise ValueError(f"zspa_vision_cache_mb is {megabytes!r}, but must be a number from 0 on")


class VisionCache:
    """Keeps the features of the images that were asked about last.

    Until there are any it holds on to memory of its full size, so that vLLM, which gives the key-value cache what is
    left when the model has been loaded, counts it.

    Args:
        megabytes: of features, at most, in the memory of each rank's device; what is longer than that is never kept.
        device: where features are.

    Raises:
        ValueError: the size is no number from 0 on.
    """

    def __init__(self, megabytes: float, device: torch.device | str = "cpu"):
        check_megabytes(megabytes)
        self.room = int(megabytes * 1e6)
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0
        self._reserved: Tensor | None = torch.empty(self.room, dtype=torch.uint8, device=device)

    def clear(self) -> None:
        """Forgets all features, as when the weights that made them have changed."""
        self._features.clear()
        self._bytes = 0

    def features(
        self, keys: Sequence[bytes] | None, count: int, encode: Callable[[list[int]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """The features `(n_i, d)` of a batch of images.

        Args:
            keys: what each image is known by; None where nothing is to be looked up or kept.
            count: images in the batch.
            encode: from the images that have to be encoded, by their place in the batch, to their features.
        """
        if keys is None or not self.room:
            return list(encode(list(range(count))))
        found = {key: self._features[key] for key in keys if key in self._features}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            found |= dict(zip(missing, encode([keys.index(key) for key in missing])))
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _keep(self, key: bytes, features: Tensor) -> None:
        self._reserved = None
        if features.nbytes > self.room:
            return
        before = self._features.pop(key, None)
        self._bytes -= before.nbytes if before is not None else 0
        while self._bytes + features.nbytes > self.room:
            self._bytes -= self._features.popitem(last=False)[1].nbytes
        # Of one image alone: a slice of a batch would hold on to all of it.
        self._features[key] = features.clone() if features.untyped_storage().nbytes() > features.nbytes else features
        self._bytes += features.nbytes
