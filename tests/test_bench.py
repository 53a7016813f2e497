"""The benchmark of whole answers, on small random models and on the embedded one."""

import json

import pairs
import pytest
import torch

from hf_zspa.bench import shapes
from hf_zspa.bench.clock import TensorMemory
from hf_zspa.bench.command import markdown, paper_table_3, read_pairs
from hf_zspa.bench.measure import METHODS, Settings, measure, packed_prompt, stock_view
from hf_zspa.cli import main

SETTINGS = Settings(pairs.KEEP / 100, pairs.CORE / 100, new_tokens=3, time_allowed=0)


def test_every_method_is_measured(pair):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    rows = measure(pair.model, [inputs], SETTINGS)
    assert [row["method"] for row in rows] == list(METHODS)
    by_method = {row["method"]: row for row in rows}
    for row in rows:
        assert 0 < row["first_token"]["median"] <= row["end_to_end"]["median"]
        assert (row["selection"] is None) == (row["method"] in ("original", "limit"))
        assert row["kept"] == (row["visual_tokens"] if row["method"] == "original" else by_method["zspa"]["kept"])
    dropped = by_method["zspa"]["visual_tokens"] - by_method["zspa"]["kept"]
    text = pair.model.config.get_text_config()
    heads = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = text.num_hidden_layers * 2 * text.num_key_value_heads * heads * 4
    assert by_method["original"]["cache_bytes"] - by_method["zspa"]["cache_bytes"] == dropped * per_token
    assert by_method["limit"]["cache_bytes"] == by_method["zspa"]["cache_bytes"]
    peaks = {name: row["peak_memory"]["tensors"] for name, row in by_method.items()}
    assert peaks["original"] - peaks["zspa"] >= dropped * per_token
    assert by_method["limit"]["end_to_end_to_limit"] == 1
    assert "| zspa |" in markdown({"rows": rows}) and "264.2 ms" in paper_table_3({"rows": rows})


def test_the_limit_computes_what_the_pruned_model_computes(pair):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    given = packed_prompt(pair.model, inputs, SETTINGS.pruner("zspa"))
    if pair.model.rope_rows:  # it numbers its positions itself there
        given["position_ids"] = None
    logits = stock_view(pair.model)(**given).logits[:, -1]
    own = pair.model(**inputs).logits[:, -1]
    assert logits.shape == own.shape
    if not pair.model.rope_rows:
        torch.testing.assert_close(logits, own)


def test_tensor_memory_counts_what_is_alive():
    with TensorMemory() as memory:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = torch.zeros(500)
        assert memory.alive == 6000 and memory.peak == 8000
        del b, c
        assert memory.alive == 0


@pytest.mark.parametrize("name", [name for name in shapes.SHAPES if not name.endswith("-small")])
def test_the_inputs_of_a_shape_fit_its_model(name):
    with torch.device("meta"):
        model = shapes.build(name, torch.device("meta"), torch.bfloat16)
        layers = model.config.get_text_config().num_hidden_layers
    assert layers == (28 if "qwen" in name else 32) and model.dtype == torch.bfloat16
    given = shapes.inputs(name, model)
    counts = {"llava-1.5-7b": 576, "llava-next-7b": 576 + 48 * 49, "qwen2.5-vl-7b": 36 * 36}
    assert given["input_ids"].shape == (1, shapes.TEXT + counts[name])


def test_bench_on_the_embedded_checkpoint(tmp_path, monkeypatch, capsys):
    arguments = ["hf-zspa", "bench", "embedded", "--limit", "1", "--seconds", "0", "--new-tokens", "2", "--table", "3"]
    monkeypatch.setattr("sys.argv", [*arguments, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == list(METHODS)
    assert (tmp_path / "out" / "results.md").read_text().startswith("| method |")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give a checkpoint or --shape"),
        (["--shape", "llava-2"], "--shape is 'llava-2', but must be one of llava-1.5-7b"),
        (["embedded", "--table", "1"], "--table is 1, but must be 3"),
        (["embedded", "--dtype", "int8"], "--dtype is 'int8'"),
        (["embedded", "--keep-ratio", "0"], "keep_ratio is 0"),
        (["embedded", "--pairs", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hf-zspa", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_pairs_are_read_from_json_lines(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"image": "a.png", "question": "what?"}\n{"image": "b.png", "question": "where?"}\n')
    assert read_pairs(file, 1) == [(tmp_path / "a.png", "what?")]
    file.write_text('{"image": "a.png"}\n')
    with pytest.raises(ValueError, match="line 1 of"):
        read_pairs(file)
