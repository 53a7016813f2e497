"""The benchmark of serving, with a model so small that only its form is measured."""

import json
import sys
import threading
import urllib.error
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import serving
import serving_cost
from conftest import VERSION

from hf_zspa.bench import shapes

TEXT = {
    "hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1,
    "num_hidden_layers": 1,
}  # fmt: skip
VISION = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 128}


@pytest.mark.parametrize(
    ("shape", "layers", "methods", "dropped"),
    [
        ("qwen2.5-vl-7b-small", "fullatt_block_indexes", "unpruned,zspa", 64 - 6),  # of 8 x 8 visual tokens
        pytest.param(
            "qwen3-vl-8b-small", "deepstack_visual_indexes", "unpruned,weighted", 49 - 5, marks=pytest.mark.nightly
        ),
    ],
)
def test_the_rows_tell_pruned_from_unpruned(monkeypatch, tmp_path, shape, layers, methods, dropped):
    given = shapes.SHAPES[shape]
    config = dict(given.config)
    config["text_config"] = config["text_config"] | TEXT
    config["vision_config"] = config["vision_config"] | VISION | {layers: [0]}
    monkeypatch.setitem(shapes.SHAPES, "tiny", replace(given, config=config))
    monkeypatch.setattr(serving, "LOADS", (serving.Load("any", 224, 4, 2),))
    command = ["serving", "--shape", "tiny", "--methods", methods, "--rounds", "1", "--requests", "4"]
    monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path / "out")])
    monkeypatch.setenv("VLLM_CPU_CI_ENV", "1")  # vLLM's own, for tests: nothing is compiled
    serving.main()
    results = json.loads((tmp_path / "out.json").read_text())
    unpruned, pruned = results["rows"]
    assert unpruned["prompt_tokens"] - pruned["prompt_tokens"] == dropped
    assert all(row["request_throughput"] > 0 and row["median_ttft_ms"] > 0 for row in results["rows"])
    assert all(row["blocks"] is None or row["blocks"] > 0 for row in results["rows"])  # so short a turn may be missed
    assert "| any |" in (tmp_path / "out.md").read_text() and results["vllm"].startswith(VERSION)


def test_blocks_are_seen_while_requests_run_and_a_busy_server_is_asked_again(monkeypatch):
    answers = iter([0.1, urllib.error.URLError("busy"), TimeoutError("busy"), 0.32])
    asked_all = threading.Event()

    def metric(address, name):
        answer = next(answers, None)
        if answer is None:
            asked_all.set()
        if isinstance(answer, Exception):
            raise answer
        return answer or 0.0

    monkeypatch.setattr(serving, "LOOK_EVERY", 0)
    monkeypatch.setattr(serving, "label", lambda *asked: "100")
    monkeypatch.setattr(serving, "metric", metric)
    with serving.watching_blocks("http://127.0.0.1:1") as seen:
        assert asked_all.wait(60)
    assert seen[:2] == [10, 32] and not any(seen[2:])


@pytest.mark.parametrize(("seen", "expected"), [([0, 0], None), ([], None), ([0, 4, 2], 4)])
def test_blocks_nobody_saw_are_none_rather_than_zero(monkeypatch, seen, expected):
    @contextmanager
    def watching(address):
        yield seen

    monkeypatch.setattr(serving, "watching_blocks", watching)
    monkeypatch.setattr(serving, "metric", lambda *asked: 0.0)
    found = dict.fromkeys(serving._FIGURES, 1.0) | {"completed": 2, "total_output_tokens": 8}
    monkeypatch.setattr("vllm.benchmarks.serve.main", lambda arguments: found)
    turn = serving.turn("http://127.0.0.1:1", Path("model"), serving.Load("any", 224, 4, 2), {}, 2, 0)
    assert turn["blocks"] == expected


def test_the_median_and_the_table_leave_out_what_nobody_saw():
    row = {"name": "any", "prompt_tokens": 100, "request_throughput": 2.0, "median_ttft_ms": 3.0, "median_tpot_ms": 1.0}
    first, other = row | {"method": "unpruned"}, row | {"method": "zspa"}
    table = serving.markdown([first | {"blocks": 8}, other | {"blocks": None, "request_throughput": 5.0}])
    assert table.endswith("| 8 → not seen |") and "| any | unpruned → zspa | 100 → 100 | 2 → 5 | 2.50 |" in table
    assert serving._median([None, 4, 8]) == 6 and serving._median([None]) is None


@pytest.mark.nightly
def test_the_cost_is_that_of_each_method_beside_stock(monkeypatch):
    small = shapes.SHAPES["qwen3-vl-8b-small"]
    text, vision = ({name: 128} for name in ("hidden_size", "out_hidden_size"))
    parts = {"text_config": small.config["text_config"] | text, "vision_config": small.config["vision_config"] | vision}
    monkeypatch.setitem(shapes.SHAPES, serving_cost.SHAPE, replace(small, config=small.config | parts))
    monkeypatch.setattr(serving_cost, "ANSWERS", (1, 3))
    rows = serving_cost.measure(1)
    assert [row["method"] for row in rows] == ["stock", "unpruned", "zspa", "weighted"] * 4
    assert [row["answer"] for row in rows] == [*[1] * 4, *[3] * 4] * 2
    stock, unpruned, zspa, weighted = (row["prompt_tokens"] for row in rows[:4])
    assert stock == unpruned == zspa + 441 - 44 == weighted + 441 - 44
    assert all(len(row["cpu"]) == 1 and row["cpu"][0] > 0 and row["time"][0] > 0 for row in rows)
