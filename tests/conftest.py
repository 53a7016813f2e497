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
import transformers

from hf_zspa.remote_code import zspa_kernels, zspa_lookahead, zspa_methods, zspa_selection, zspa_similarity
from hf_zspa.version import TESTED_TRANSFORMERS

torch.set_num_threads(1)

# A landing must not hang on luck; everywhere else every run draws new examples.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(config, items):
    """On the newest version of transformers all tests run, and before a release on all; else of the families beyond the
    paper's those that are marked `every_version`, and of the others those that are not `oldest_and_newest`."""
    if os.environ.get("TEST_ALL") or transformers.__version__ == TESTED_TRANSFORMERS[-1]:
        return
    is_oldest = transformers.__version__ == TESTED_TRANSFORMERS[0]
    left_out = [
        item
        for item in items
        if ("/families/" in item.path.as_posix() and not item.get_closest_marker("every_version"))
        or (item.get_closest_marker("oldest_and_newest") and not is_oldest)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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
