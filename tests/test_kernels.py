"""The kernels of the selection, compiled for GPUs that are not there and counted as they are launched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_costs import Operations

from hf_zspa import ZspaPruner
from hf_zspa.remote_code import zspa_kernels, zspa_similarity

SMALL = 8192  # tokens up to which all that a program remembers fits in registers


def test_they_compile_for_gpus_and_keep_what_they_remember_in_registers():
    script = Path(__file__).with_name("compiled_kernels.py")
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["kernel"] for row in found} == {"_prepare_kernel", "_isolation_kernel", "_select_kernel"}
    assert {row["gpu"] for row in found} >= {"A100", "H100, H200"}
    assert {row["tokens"] for row in found} > {576, SMALL, zspa_kernels.LONGEST}
    assert [row for row in found if row["spilled"] and row["tokens"] <= SMALL] == []
    assert all(row["spilled"] <= 256 for row in found)


class Launches:
    """Stands in for a kernel and counts its launches; what they would write stays as it is."""

    def __init__(self):
        self.count = 0

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            self.count += 1

        return launch


def launched(monkeypatch, images: int, n: int, keep_ratio: float, core_ratio: float) -> int:
    """What a selection starts on a GPU, kernels and operators of torch; nothing in it may wait."""
    kernels = Launches()
    for name in ("_prepare_kernel", "_isolation_kernel", "_select_kernel"):
        monkeypatch.setattr(zspa_kernels, name, kernels)
    monkeypatch.setattr(zspa_similarity, "_summed_in_float32", lambda tokens: True)
    monkeypatch.setattr(torch, "bmm", lambda a, b, out_dtype: (a @ b).to(out_dtype).as_subclass(torch.Tensor))
    prompt = torch.zeros(7, 16, dtype=torch.bfloat16)
    tokens = [torch.zeros(n, 16, dtype=torch.bfloat16) for _ in range(images)]
    with Operations() as operations:
        ZspaPruner(keep_ratio, core_ratio)(tokens, [prompt] * images)
    assert operations.waits == [] and kernels.count == (3 if core_ratio == 0 else 2)
    return kernels.count + len(operations.launches)


@pytest.mark.parametrize("core_ratio", [0.0, 0.4, 1.0])
def test_a_selection_is_few_launches_however_many_tokens_there_are(as_on_a_gpu, monkeypatch, core_ratio):
    one = launched(monkeypatch, 1, 40, 0.1, core_ratio)
    assert one <= 8
    assert launched(monkeypatch, 1, 200, 0.5, core_ratio) == one
    assert launched(monkeypatch, 8, 40, 0.1, core_ratio) <= one + 1 + 2 * 8  # each is put into the batch, and sorted


def test_what_the_kernels_select_is_independent_of_the_batch(as_on_a_gpu):
    generator = torch.Generator().manual_seed(3)
    images = [torch.randn(n, 24, generator=generator) for n in (50, 17, 33)]
    prompts = [torch.randn(4, 24, generator=generator), torch.empty(0, 24), torch.randn(2, 24, generator=generator)]
    pruner = ZspaPruner(0.3, 0.4)
    together = pruner(images, prompts)
    for image, prompt, kept in zip(images, prompts, together):
        assert torch.equal(pruner([image], [prompt])[0], kept)
    assert zspa_kernels._usable


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
    assert zspa_kernels._usable
