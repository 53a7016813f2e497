"""The benchmark of whole answers, on small random models and on the embedded one."""

import json
from dataclasses import replace

import pairs
import pytest
import torch

from hf_zspa.bench import gpu, scaling, shapes
from hf_zspa.bench.clock import TensorMemory
from hf_zspa.bench.command import read_pairs
from hf_zspa.bench.measure import METHODS, SAMPLES, Race, Settings, packed_prompt, stock_view
from hf_zspa.bench.report import markdown, paper_table_3
from hf_zspa.bench.selection_profile import PARTS, profile
from hf_zspa.cli import main
from hf_zspa.remote_code.zspa_similarity import Cosines

SETTINGS = Settings(pairs.KEEP / 100, pairs.CORE / 100, new_tokens=3)


def test_every_method_is_measured(pair):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    answered = []
    race = Race(pair.model, SETTINGS, advance=lambda: answered.append(1))
    race.run(inputs)
    race.run(inputs, new=False)
    rows = race.rows()
    assert [row["method"] for row in rows] == list(METHODS) and len(answered) == 2 * len(METHODS)
    samples = {row["method"]: row["samples"][0] for row in rows}
    for row in rows:
        assert row["answers"] == 2 and len(row["samples"]) == 1
        assert 0 < row["first_token"]["median"] <= row["end_to_end"]["median"]
        assert (row["selection"] is None) == (row["method"] in ("original", "limit"))
        pruned = row["method"] != "original"
        assert samples[row["method"]]["kept"] == samples["zspa" if pruned else "original"]["kept"]
    dropped = samples["zspa"]["visual_tokens"] - samples["zspa"]["kept"]
    assert samples["original"]["kept"] - samples["zspa"]["kept"] == dropped > 0
    text = pair.model.config.get_text_config()
    heads = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = text.num_hidden_layers * 2 * text.num_key_value_heads * heads * 4
    assert samples["original"]["cache_bytes"] - samples["zspa"]["cache_bytes"] == dropped * per_token
    assert samples["limit"]["cache_bytes"] == samples["zspa"]["cache_bytes"]
    peaks = {name: sample["peak_memory"]["tensors"] for name, sample in samples.items()}
    assert peaks["original"] - peaks["zspa"] >= dropped * per_token
    assert {row["method"]: row["to"] for row in rows}["limit"]["limit"] == {"first_token": 1, "end_to_end": 1}
    assert "| zspa |" in markdown({"rows": rows})


def test_table_3_has_the_mean_time_and_the_memory_of_the_first_three(pair):
    race = Race(pair.model, SETTINGS, ("original", "zspa"))
    for seed in range(SAMPLES + 1):
        race.run(dict(pair.inputs([pairs.image(seed), pairs.QUESTION])))
    rows = race.rows()
    lines = paper_table_3({"rows": rows}).splitlines()
    assert lines[0] == "|  | original, here | zspa, here | original, paper | divprune, paper | zspa, paper |"
    assert lines[2].endswith("| 365.6 | 256.9 | 264.2 |") and f"{rows[1]['end_to_end']['mean']:.4g}" in lines[2]
    assert len(lines) == 3 + 2 * SAMPLES and lines[4].endswith("| 14336.8 | 14164.8 | 14164.8 |")


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
    counts = {"llava-1.5-7b": 576, "llava-next-7b": 576 + 48 * 49, "qwen2.5-vl-7b": 36 * 36 + 2}
    assert given["input_ids"].shape == (1, shapes.TEXT + counts[name])


@pytest.mark.parametrize("name", [name for name in shapes.SHAPES if name.endswith("-small")])
def test_small_shapes_prune_batches_of_several_images(name, monkeypatch):
    """With every width divided, because nothing here depends on it."""
    model = tiny_model(name, monkeypatch)
    given = shapes.inputs(name, model, shapes.Prompt(batch=2, images=2, patches=(8, 12)))
    selected = model.select_visual_tokens(**given)
    assert len(selected) == 4
    assert sum(map(len, selected)) < int((given["input_ids"] == model.config.image_token_id).sum())


def test_a_shape_has_videos(monkeypatch):
    model = tiny_model("qwen2.5-vl-7b-small", monkeypatch)
    given = shapes.inputs("qwen2.5-vl-7b-small", model, shapes.Prompt(frames=6, patches=(8, 8)))
    assert int((given["input_ids"] == model.config.video_token_id).sum()) == 3 * 4 * 4
    assert [len(kept) for kept in model.select_visual_tokens(**given)] == [5]


def tiny_model(name: str, monkeypatch):
    shape = shapes.SHAPES[name]
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in shape.config.items()}
    config["text_config"] |= {"hidden_size": 128, "intermediate_size": 32, "num_attention_heads": 1,
                              "num_key_value_heads": 1, "head_dim": 128}  # fmt: skip
    config["vision_config"] |= {"hidden_size": 64, "intermediate_size": 32}
    if "out_hidden_size" in config["vision_config"]:
        config["vision_config"] |= {"out_hidden_size": 128, "num_heads": 4}
    monkeypatch.setitem(shapes.SHAPES, name, shapes.Shape(shape.model_class, config))
    return shapes.build(name, torch.device("cpu"), torch.float32)


def test_bench_on_the_embedded_checkpoint(tmp_path, monkeypatch, capsys):
    arguments = ["hf-zspa", "bench", "embedded", "--limit", "1", "--seconds", "0", "--new-tokens", "2", "--table", "3"]
    monkeypatch.setattr("sys.argv", [*arguments, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    assert "\n| average end to end (ms) |" in out  # whole rows, where there is no terminal to draw a table on
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
        (["embedded", "--device", "gpu0"], "device is 'gpu0', but must be such as cpu or cuda:0"),
        (["embedded", "--seconds", "-3"], "--seconds is -3, but must be 0 or above"),
        (["embedded", "--batch", "2"], "--batch, --images, --frames and --patches are for --shape"),
        (["embedded", "--output", __file__], "is a file: give a folder"),
        (["embedded", "--output", "/proc/out"], "--output /proc/out cannot be made"),
        (["embedded", "--pairs", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["embedded", "--methods", "zspa,fastv"], "--methods has fastv, but must be of original, zspa"),
        (["--shape", "qwen2.5-vl-7b-small", "--patches", "7x8"], "--patches is '7x8', but must be two even numbers"),
        (["--shape", "llava-1.5-7b-small", "--pairs", "a.jsonl"], "leave out --pairs and --task"),
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


def test_everything_for_a_gpu_runs_on_a_cpu_too(monkeypatch):
    """With every width divided; on a GPU the same command runs the real shapes."""
    tiny_model("llava-1.5-7b-small", monkeypatch)
    *_, results = gpu.measure(torch.device("cpu"), ("llava-1.5-7b-small",), (32,), torch.float32, allowed=0)
    assert [row["method"] for row in results["races"][0]["rows"]] == list(METHODS)
    assert {row["tokens"] for row in results["selection"]} == {32} and not results["failed"]
    text = gpu.markdown(results | {"tests": {"last_line": "9 passed"}})
    assert "9 passed" in text and "| 32 → 3 | random, bfloat16 | zspa |" in text and "| zspa | 576 → 58 |" in text


def test_what_fails_on_a_gpu_loses_nothing_that_was_measured(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(gpu, "race", fail)
    stages = [dict(found) for found in gpu.measure(torch.device("cpu"), ("llava-1.5-7b", "llava-next-7b"), (32,))]
    assert len(stages) == 3 and stages[0]["selection"] and stages[-1]["selection"]
    assert [*stages[-1]["failed"]] == ["llava-1.5-7b", "llava-next-7b"]
    assert "llava-next-7b failed: OutOfMemoryError: no memory left" in gpu.markdown(stages[-1])


def test_scaling_measures_every_axis_and_fits_it(monkeypatch):
    tiny_model("qwen2.5-vl-7b-small", monkeypatch)
    small = scaling.Selection(n=16, d=8)
    monkeypatch.setattr(scaling, "selections", lambda: {"visual tokens": {n: replace(small, n=n) for n in (16, 32)}})
    axes = {
        "new tokens": {t: scaling.Answer(shapes.Prompt(patches=(8, 8)), Settings(new_tokens=t)) for t in (2, 3)},
        "frames of a video": {f: scaling.Answer(shapes.Prompt(patches=(8, 8), frames=f)) for f in (2, 4)},
    }
    monkeypatch.setattr(scaling, "answers", lambda: axes)
    done: list[str] = []
    results = scaling.measure("qwen2.5-vl-7b-small", torch.device("cpu"), 2, done.append)
    assert len(done) == 6
    found = results["answer"]["frames of a video"]
    assert [found[f]["zspa"]["visual_tokens"] for f in (2, 4)] == [16, 32]
    assert found[2]["original"]["cache_bytes"] > found[2]["zspa"]["cache_bytes"] == found[2]["limit"]["cache_bytes"]
    assert "| 32 → 3 |" in scaling.markdown(results) and scaling.markdown(results).count("grows with the power") == 3


def test_axes_measured_anew_take_their_old_place_beside_the_others(monkeypatch, tmp_path, capsys):
    small = scaling.Selection(n=16, d=8)
    axes = {"visual tokens": {n: replace(small, n=n) for n in (16, 32)}, "images": {b: small for b in (1, 2)}}
    monkeypatch.setattr(scaling, "selections", lambda: axes)
    monkeypatch.setattr(scaling, "answers", dict)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["scaling", "--output", str(tmp_path / "out"), *arguments])
        scaling.main()
        return json.loads((tmp_path / "out.json").read_text())

    before = run()["selection"]
    after = run("--axes", "selection, visual tokens")["selection"]
    assert list(after) == list(before) == ["visual tokens", "images"]
    assert after["images"] == before["images"] and after["visual tokens"] != before["visual tokens"]
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(SystemExit):
        run("--axes", "selection, images")
    assert "has torch" in capsys.readouterr().err


def test_the_power_of_a_power_law_is_found():
    assert scaling.power({x: 3 * x**1.5 for x in (1.0, 2.0, 5.0)}) == pytest.approx(1.5)


@pytest.mark.parametrize("tokens, left_behind", [(100, False), (1100, True)])
def test_a_profile_of_the_selection_names_its_parts(tokens, left_behind):
    init = Cosines.__init__
    _, n, kind, *numbers, _ = (cell.strip() for cell in profile(tokens, "random", 0).split("|"))
    total, *parts, passes, of_pairs, of_kept = map(float, numbers)
    spent = dict(zip(PARTS, parts, strict=True))
    assert (n, kind) == (str(tokens), "random") and spent["norms"] and spent["relevance"] and spent["similarities"]
    assert bool(spent["leaving behind"]) == bool(spent["guesses"]) == left_behind
    assert sum(parts) <= total * 1.01 and passes >= 1  # times have three digits
    assert 0 < of_pairs < 1 and of_kept == pytest.approx(of_pairs * 10, rel=0.1)
    assert Cosines.__init__ is init
