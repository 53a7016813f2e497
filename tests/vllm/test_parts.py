"""The parts of the plug-in that need no engine."""

from unittest.mock import Mock

import pytest
import torch

from hf_zspa.vllm.positions import Item, _PositionsMixin, prompt_positions, with_digits, without_digits
from hf_zspa.vllm.pruning import turns
from hf_zspa.vllm.vision_cache import VisionCache


class Tower:
    """Encodes images, of `n` tokens of width 4 each, as slices of one tensor, and notes how often."""

    def __init__(self, n: int = 100):
        self.n, self.encoded = n, []

    def of(self, names: list[bytes]):
        def encode(places):
            self.encoded += [names[i] for i in places]
            return torch.full((len(places) * self.n, 4), 1.0).split(self.n)

        return encode

    def ask(self, cache: VisionCache, *names: bytes, keys: bool = True):
        return cache.features(list(names) if keys else None, len(names), self.of(list(names)))


@pytest.fixture
def tower():
    return Tower()  # 1,600 bytes of features for an image


def test_what_was_asked_about_last_is_remembered(tower):
    cache = VisionCache(0.0035)  # two images
    for names in ([b"a", b"b"], [b"a"], [b"c"], [b"a", b"c"], [b"b"]):
        assert [len(found) for found in tower.ask(cache, *names)] == [100] * len(names)
    assert tower.encoded == [b"a", b"b", b"c", b"b"]


@torch.inference_mode()
def test_memory_is_that_of_what_is_remembered(tower):
    """A slice of a batch would hold on to the whole batch; in inference mode it does not say that it is one."""
    cache = VisionCache(0.0035)
    tower.ask(cache, *(bytes([i]) for i in range(1, 9)))
    held = {
        features.untyped_storage().data_ptr(): features.untyped_storage().nbytes()
        for features in cache._features.values()
    }
    assert len(held) == 2 and sum(held.values()) == cache._bytes == 3200


def test_what_is_too_long_displaces_nothing(tower):
    cache = VisionCache(0.0035)
    tower.ask(cache, b"a")
    Tower(1000).ask(cache, b"long")
    tower.ask(cache, b"a")
    assert tower.encoded == [b"a"]


def test_an_image_that_comes_twice_is_encoded_once_unless_it_is_unknown(tower):
    tower.ask(VisionCache(1), b"a", b"a")
    assert tower.encoded == [b"a"]
    cache = VisionCache(1)
    tower.ask(cache, b"b", b"b", keys=False)  # as in profiling, which must see what many images take
    assert tower.encoded == [b"a", b"b", b"b"] and not cache._features


def test_other_weights_make_other_features(tower):
    cache = VisionCache(1)
    tower.ask(cache, b"a")
    cache.clear()
    tower.ask(cache, b"a")
    assert tower.encoded == [b"a", b"a"]


def test_the_memory_is_reserved_until_there_are_features(tower):
    cache = VisionCache(2)
    assert cache._reserved.nbytes == 2_000_000
    tower.ask(cache, b"a")
    assert cache._reserved is None


@pytest.mark.parametrize("size", [-1, "much", None, True, float("nan")])
def test_a_bad_size_is_named(size):
    with pytest.raises(ValueError, match=f"zspa_vision_cache_mb is {size!r}"):
        VisionCache(size)


def test_images_are_encoded_together_up_to_a_number_of_tokens():
    assert turns([], 10) == []
    assert turns([4, 4, 4, 20, 1, 9, 1], 10) == [[0, 1], [2], [3], [4, 5], [6]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_places_survive_the_dtype_of_features(dtype):
    """Digits to the base 128: 16-bit floats have whole numbers up to 256 exactly, at least. Of a long video places go
    farther than two of them."""
    features = torch.randn(16384, 8).to(dtype)
    first = torch.arange(16384)
    places = torch.stack([first, first.flip(0) + 32_800, first * 128 + 127])
    back, found = without_digits(with_digits(features, places), 3)
    assert torch.equal(back, features) and torch.equal(found, places)


def test_a_step_without_images_leaves_the_positions_as_they_are():
    """It is asked for every request in every step."""
    positions, delta = prompt_positions(7, [Item(offset=1, kept=3, after=9)])
    model = Mock(spec=[])  # nothing of the model is needed
    found = _PositionsMixin.recompute_mrope_positions(model, None, [], positions, 0)
    assert found == ([], positions, delta) and found[1] is positions and delta == 6
