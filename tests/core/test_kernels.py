"""The kernels of the selection, compiled for GPUs that are not there and counted as they are launched."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from operations import Operations

from hf_zspa import DppPruner, WeightedPruner, ZspaPruner
from hf_zspa.remote_code import zspa_kernels, zspa_similarity
from hf_zspa.remote_code.zspa_calling import choose

SMALL = 8192  # tokens up to which all that a program remembers fits in registers


@pytest.mark.slow
def test_they_compile_for_gpus_and_keep_what_they_remember_in_registers():
    script = Path(__file__).parents[1] / "compiled_kernels.py"
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["kernel"] for row in found} == {name for name in vars(zspa_kernels) if name.endswith("_kernel")}
    assert [row for row in found if row["stack"] > (16 if row["tokens"] <= SMALL else 256)] == []


class Launches:
    """Stands in for a kernel and counts its launches; what they would write stays as it is."""

    def __init__(self):
        self.count = 0

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            self.count += 1

        return launch


def launched(monkeypatch, images: int, n: int, pruner) -> int:
    """What a selection starts on a GPU, kernels and operators of torch, but for the copy of its few numbers to there;
    nothing in it may wait."""
    kernels = Launches()
    for name in [name for name in vars(zspa_kernels) if name.endswith("_kernel")]:
        monkeypatch.setattr(zspa_kernels, name, kernels)

    def product(a, b):  # one operator there
        kernels.count += 1
        return torch.empty(len(a), a.shape[1], b.shape[1])

    monkeypatch.setattr(zspa_kernels, "products", product)
    prompt = torch.zeros(7, 16, dtype=torch.bfloat16)
    tokens = [torch.zeros(n, 16, dtype=torch.bfloat16) for _ in range(images)]
    with Operations() as operations:
        choose(tokens, [prompt] * images, pruner)
    assert operations.waits == []
    return kernels.count + len(operations.launches)


@pytest.mark.parametrize(
    "pruner, launches",
    [
        (ZspaPruner(0.1, 0.0), 5),
        (ZspaPruner(0.1, 0.4), 6),
        (ZspaPruner(0.1, 1.0), 6),
        (WeightedPruner(0.1), 32),
        (DppPruner(0.1), 29),
    ],
)
def test_a_selection_is_few_launches_however_many_tokens_there_are(as_on_a_gpu, monkeypatch, pruner, launches):
    assert launched(monkeypatch, 1, 40, pruner) == launches
    assert launched(monkeypatch, 1, 200, replace(pruner, keep_ratio=0.5)) == launches
    # Each is put into the batch, and sorted.
    assert launched(monkeypatch, 8, 40, pruner) <= launches + 1 + 2 * 8


def test_what_the_kernels_select_is_independent_of_the_batch(as_on_a_gpu):
    generator = torch.Generator().manual_seed(3)
    images = [torch.randn(n, 24, generator=generator) for n in (50, 17, 33)]
    prompts = [torch.randn(4, 24, generator=generator), torch.empty(0, 24), torch.randn(2, 24, generator=generator)]
    pruner = ZspaPruner(0.3, 0.4)
    together = pruner(images, prompts)
    for image, prompt, kept in zip(images, prompts, together):
        assert torch.equal(pruner([image], [prompt])[0], kept)
    assert zspa_kernels.usable


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("core_ratio", [0.0, 0.4])
def test_tokens_that_are_not_finite_are_as_zero_to_the_kernels(as_on_a_gpu, bad, core_ratio):
    generator = torch.Generator().manual_seed(4)
    visual, prompt = torch.randn(30, 24, generator=generator), torch.randn(4, 24, generator=generator)
    visual[5, 3] = bad
    zero = visual.clone()
    zero[5] = 0
    pruner = ZspaPruner(0.3, core_ratio)
    assert torch.equal(pruner([visual], [prompt])[0], pruner([zero], [prompt])[0])
    prompt[1, 2] = bad  # a prompt without direction: every relevance is 0, and the first tokens are the core
    ((core, _),) = pruner.split([visual], [prompt])
    assert core.tolist() == list(range(pruner.core(30)))
    assert zspa_kernels.usable


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_only_tokens_of_16_bits_are_multiplied_as_such(dtype):
    class OnGpu:
        is_cuda = True

    OnGpu.dtype = dtype
    assert zspa_similarity.summed_in_float32(OnGpu()) == (dtype.itemsize == 2)


def test_what_fails_outside_of_triton_is_no_reason_to_do_without_it(as_on_a_gpu, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(zspa_kernels, "products", fail)
    with pytest.raises(torch.OutOfMemoryError):
        ZspaPruner(0.3)([torch.randn(20, 16)], [torch.randn(3, 16)])
    assert zspa_kernels.usable


def test_a_batch_of_images_is_not_changed(as_on_a_gpu):
    images = [torch.randn(n, 16) for n in (20, 30)]
    before = [image.clone() for image in images]
    ZspaPruner(0.3)(images, images)
    ZspaPruner(0.3)(images[:1], images[:1])
    assert all(map(torch.equal, images, before))
