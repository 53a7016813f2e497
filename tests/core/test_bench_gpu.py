"""The command that measures on a GPU, on a CPU: on a GPU it runs the real shapes."""

import json

import gpu
import pytest
import torch
from tiny_shapes import tiny_model

from hf_zspa.bench.measure import METHODS, InterleavedBenchmark

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_everything_for_a_gpu_runs_on_a_cpu_too(monkeypatch):
    tiny_model("llava-1.5-7b-small", monkeypatch)
    *_, results = gpu.measure(CPU, ("llava-1.5-7b-small",), (32,), torch.float32, seconds=0)
    assert [row["method"] for row in results["answers"][0]["rows"]] == list(METHODS)
    assert {row["tokens"] for row in results["selection"]} == {32} and not results["failed"]
    text = gpu.markdown(results | {"tests": {"last_line": "9 passed"}})
    assert "9 passed" in text and "| 32 → 3 | random, bfloat16 | zspa |" in text and "| zspa | 576 → 58 |" in text


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory left"), TypeError("no memory left")])
def test_what_fails_on_a_gpu_loses_nothing_that_was_measured(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(gpu.shapes, "build", fail)
    stages = [json.dumps(found) for found in gpu.measure(CPU, ("llava-1.5-7b", "llava-next-7b"), (32,), seconds=0)]
    first, second, *_, last = map(json.loads, stages)
    assert len(stages) == 4 and not first["selection"] and second["selection"] and last["selection"]
    assert [*last["failed"]] == ["llava-1.5-7b", "llava-next-7b"]
    assert f"llava-next-7b failed: {type(error).__name__}: no memory left" in gpu.markdown(last)


def test_a_benchmark_that_fails_keeps_its_whole_rounds(monkeypatch):
    tiny_model("llava-1.5-7b-small", monkeypatch)
    answer, answered = InterleavedBenchmark._answer, []

    def fail_late(benchmark, method, *arguments):
        answered.append(method)
        if len(answered) == 4 * len(METHODS) - 1:  # in the second round after the warm-up and the measured sizes
            raise torch.OutOfMemoryError("no memory left")
        return answer(benchmark, method, *arguments)

    monkeypatch.setattr(InterleavedBenchmark, "_answer", fail_late)
    *_, results = gpu.measure(CPU, ("llava-1.5-7b-small",), (), torch.float32, seconds=600)
    assert [row["answers"] for row in results["answers"][0]["rows"]] == [1] * len(METHODS)
    assert results["failed"] == {"llava-1.5-7b-small": "OutOfMemoryError: no memory left"}


@pytest.mark.parametrize(
    "test, status, told",
    [
        ("def test_it():\n    pass", 0, "1 passed"),
        ("def test_it():\n    assert 'this' == 'that'", 1, "assert 'this' == 'that'"),
        ("import os\ndef test_it():\n    os.write(2, b'why it ended')\n    os.abort()", -6, "why it ended"),
        ("import time\ndef test_it():\n    time.sleep(600)", 1, "stopped after 2 seconds"),
    ],
)
def test_how_the_tests_of_a_gpu_ended_is_kept(tmp_path, monkeypatch, test, status, told):
    monkeypatch.setattr(gpu, "TEST_SECONDS", 2 if status == 1 and "sleep" in test else 200)
    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    (tmp_path / "tests" / "gpu" / "test_gpu.py").write_text(test)
    found = gpu.run_tests(tmp_path)
    assert found["exit_status"] == status
    assert told in found["last_line"] + found.get("output", "")
    assert ("output" in found) == bool(status)


def test_the_command_writes_what_it_has_after_every_stage(tmp_path, monkeypatch, capsys):
    measure = gpu.measure

    def stopped(device, seconds):
        yield from measure(CPU, (), (32,), torch.float32, seconds=0)
        raise KeyboardInterrupt

    ended = {"exit_status": 1, "last_line": "1 failed", "output": "why\n1 failed"}
    monkeypatch.setattr(gpu, "measure", stopped)
    monkeypatch.setattr(gpu, "run_tests", lambda root: ended)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr("sys.argv", ["gpu", "--output", str(tmp_path / "made" / "gpu")])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    written = json.loads((tmp_path / "made" / "gpu.json").read_text())
    assert written["tests"] == ended and {row["tokens"] for row in written["selection"]} == {32}
    assert "why" in capsys.readouterr().out


def test_interpreted_kernels_are_not_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("sys.argv", ["gpu", "--output", str(tmp_path / "gpu")])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "TRITON_INTERPRET is set" in capsys.readouterr().err
