"""Fixtures shared by the tests: small random checkpoints, made once per session."""

import functools
import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers have their parent's
    _assets = tempfile.TemporaryDirectory(prefix="hf_zspa-")
    os.environ["HF_ASSETS_CACHE"] = _assets.name  # the shipped checkpoints are made once, and not in the user's cache
os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; set it to 0 to run them on a GPU

import hypothesis
import pairs
import pytest
import tiny
import torch

from hf_zspa.remote_code import zspa_kernels, zspa_lookahead, zspa_methods, zspa_selection, zspa_similarity

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


@pytest.fixture(params=tiny.OTHER_FAMILIES)
def other(request, load):
    """The models of each family that is none of the paper's."""
    return load(request.param)


@pytest.fixture
def looking_ahead(monkeypatch):
    """Few tokens are not all compared, and looking ahead and leaving behind begin with a handful."""
    small = {
        "FEW": 0, "BOUNDING": 3, "AHEAD": 4, "CANDIDATES": 9, "COLUMNS": 30, "CONTENDERS": 5, "PER_STEP": 2,
        "TOO_FEW": 2,
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(zspa_lookahead, name, value)
    monkeypatch.setattr(zspa_similarity, "COLUMNS", small["COLUMNS"])


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Selects as on a GPU, without one: nothing may be looked at, and Triton's kernels are interpreted."""
    for module in (zspa_similarity, zspa_selection):
        monkeypatch.setattr(module, "on_cpu", lambda tensor: False)


@pytest.fixture(params=["all pairs", "looking ahead", "torch", pytest.param("triton", marks=pytest.mark.slow)])
def way(request, monkeypatch):
    """Selects as on a CPU, where few tokens are all compared and many only as needed, or as on a GPU: in plain torch,
    or in the kernels, which Triton interprets on a CPU."""
    if request.param == "looking ahead":
        request.getfixturevalue("looking_ahead")
    elif request.param != "all pairs":
        request.getfixturevalue("as_on_a_gpu")
    if request.param == "torch":
        monkeypatch.setattr(zspa_selection, "select_on_gpu", lambda *given, **named: None)
        monkeypatch.setattr(zspa_methods, "select_on_gpu", lambda *given, **named: None)
    yield request.param
    assert request.param != "triton" or zspa_kernels.usable
