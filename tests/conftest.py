"""Fixtures shared by the tests: small random checkpoints, made once per session."""

import functools
import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; set it to 0 to run them on a GPU

import hypothesis
import pairs
import pytest
import tiny
import torch

torch.set_num_threads(1)

# A landing must not hang on luck; everywhere else every run draws new examples.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def base_checkpoint(tmp_path_factory):
    """A function from a family (and the options of `tiny.build_base`) to the folder of a stock checkpoint."""

    @functools.cache
    def build(family: str, **options):
        return tiny.build_base(family, tmp_path_factory.mktemp(family) / "base", **options)

    return build


@pytest.fixture(scope="session")
def load(base_checkpoint):
    """A function from a family to its stock model, its pruning model with the same weights, and its processor."""

    @functools.cache
    def load_family(family: str) -> pairs.Pair:
        return pairs.load(family, base_checkpoint(family))

    return load_family


@pytest.fixture(params=tiny.FAMILIES)
def pair(request, load):
    """The models of each family in turn."""
    return load(request.param)
