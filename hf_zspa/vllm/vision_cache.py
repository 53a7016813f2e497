"""Features of images that were encoded before, so that another question about an image needs no vision tower.

vLLM's own cache of encoder outputs knows an image together with its question, because what is kept depends on both.
This one stands before the selection and knows the image alone. It is a memory of results, not a state: with it or
without, the same tokens are kept. All ranks of a tensor parallel model see the same images in the same order, so they
find and forget the same ones.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor

DEFAULT_MEGABYTES = 128  # `zspa_vision_cache_mb` of the config, as in --hf-overrides; 0 switches it off


class VisionCache:
    """Keeps the features of the images that were asked about last.

    Args:
        megabytes: of features, at most; what is longer than that is never kept.

    Raises:
        ValueError: the size is no number from 0 on.
    """

    def __init__(self, megabytes: float):
        if isinstance(megabytes, bool) or not isinstance(megabytes, (int, float)) or not megabytes >= 0:
            raise ValueError(f"zspa_vision_cache_mb is {megabytes!r}, but must be a number from 0 on")
        self.room = int(megabytes * 1e6)
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()

    def features(
        self, keys: Sequence[bytes] | None, count: int, encode: Callable[[list[int]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """The features `(n_i, d)` of a batch of images.

        Args:
            keys: what each image is known by; None where they are not to be kept.
            count: images in the batch.
            encode: from the images that have to be encoded, by their place in the batch, to their features.
        """
        if keys is None or not self.room:
            return list(encode(list(range(count))))
        found = {key: self._features[key] for key in keys if key in self._features}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            places = [keys.index(key) for key in missing]
            found |= dict(zip(missing, encode(places)))
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _keep(self, key: bytes, features: Tensor) -> None:
        self._features.pop(key, None)
        # Of one image alone: a slice of a batch would hold on to all of it.
        self._features[key] = features if features._base is None else features.clone()
        while self._features and sum(kept.nbytes for kept in self._features.values()) > self.room:
            self._features.popitem(last=False)
