"""The benchmark of serving, with a model so small that only its form is measured."""

import json
import sys

from hf_zspa.bench import serving, shapes

TEXT = {
    "hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4,
    "num_hidden_layers": 1, "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [4, 6, 6]},
}  # fmt: skip
VISION = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 128}


def test_the_rows_tell_pruned_from_unpruned(monkeypatch, tmp_path):
    given = shapes.SHAPES["qwen2.5-vl-7b-small"]
    config = dict(given.config)
    config["text_config"] = config["text_config"] | TEXT
    config["vision_config"] = config["vision_config"] | VISION | {"fullatt_block_indexes": [0]}
    monkeypatch.setitem(shapes.SHAPES, "tiny", shapes.Shape(given.model_class, config))
    monkeypatch.setattr(serving, "LOADS", (serving.Load("any", 224, 4, 2),))
    command = ["serving", "--shape", "tiny", "--rounds", "1", "--requests", "4", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    serving.main()
    results = json.loads((tmp_path / "out.json").read_text())
    unpruned, zspa = results["rows"]
    assert unpruned["prompt_tokens"] - zspa["prompt_tokens"] == 64 - 6  # of 8 x 8 visual tokens
    assert all(row["request_throughput"] > 0 and row["median_ttft_ms"] > 0 for row in results["rows"])
    assert unpruned["blocks"] >= zspa["blocks"]
    assert "| any |" in (tmp_path / "out.md").read_text() and results["vllm"].startswith("0.32")
