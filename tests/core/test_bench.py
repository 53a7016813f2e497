"""The benchmark of whole answers, on small random models and on the embedded one."""

import json
import math
import random
import re
from dataclasses import replace
from itertools import permutations

import pairs
import pytest
import scaling
import tiny
import torch
from selection_profile import PARTS, profile
from tiny_shapes import tiny_model
from transformers import AutoConfig

from hf_zspa.bench import shapes
from hf_zspa.bench.clock import TensorMemory
from hf_zspa.bench.measure import (
    METHODS,
    SAMPLES,
    Given,
    InterleavedBenchmark,
    Settings,
    packed_prompt,
    stock_view,
    takes_embeddings,
)
from hf_zspa.bench.report import markdown, paper_table_3
from hf_zspa.bench.summary import in_turn, median_interval
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.remote_code.zspa_lookahead import GreedyOnCpu

ABOUT = {
    "model": "a model", "weights": "checkpoint", "dtype": "float32", "attention": "sdpa", "device": "a CPU",
    "torch": "2", "transformers": "5", "created": "today",
    "settings": {"keep_ratio": 1, "core_ratio": 0, "new_tokens": 3},
}  # fmt: skip
SETTINGS = Settings(pairs.KEEP / 100, pairs.CORE / 100, new_tokens=3)


@pytest.mark.slow
def test_every_method_is_measured(pair):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    answered = []
    benchmark = InterleavedBenchmark(pair.model, SETTINGS, advance=lambda: answered.append(1))
    benchmark.run(inputs)
    benchmark.run(inputs)
    rows = benchmark.rows()
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
    same = {"median": 1, "interval": None}
    assert {row["method"]: row["to"] for row in rows}["limit"]["limit"] == {"first_token": same, "end_to_end": same}
    text = markdown(ABOUT | {"rows": rows})
    assert text.count("| zspa |") == 3 and "Too few for intervals" in text


def test_the_average_counts_every_question_once(pair, monkeypatch):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    benchmark = InterleavedBenchmark(pair.model, SETTINGS, ("original",))
    times = iter([1.0, 9.0, 3.0, 5.0])
    monkeypatch.setattr(benchmark, "_size", lambda *_: {})
    monkeypatch.setattr(benchmark, "_warm", {(len(pair.model.visual_and_prompt_tokens(**inputs)[0][0]),)})
    monkeypatch.setattr(benchmark, "_answer", lambda *_: ((0.5, next(times)), None))
    for question in (0, 1, 0, 0):
        benchmark.run(inputs, question)
    (row,) = benchmark.rows()
    assert row["average"] == 6000 and row["end_to_end"]["mean"] == 4500 and row["answers"] == 4


def test_the_original_is_the_stock_model_and_the_others_prune(pair, monkeypatch):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    benchmark = InterleavedBenchmark(pair.model, SETTINGS)
    packed = packed_prompt(pair.model, inputs, SETTINGS.pruner("limit", pair.model.config))
    prune, pruned = pair.model.prune_visuals, []
    monkeypatch.setattr(pair.model, "prune_visuals", lambda *a, **k: pruned.append(1) or prune(*a, **k))
    for method in METHODS:
        del pruned[:]
        benchmark._answer(method, Given(inputs, packed))
        assert len(pruned) == (method not in ("original", "limit"))


def test_a_new_size_is_answered_once_before_it_is_timed(pair, monkeypatch):
    benchmark = InterleavedBenchmark(pair.model, SETTINGS, ("zspa",))
    answer, answers = benchmark._answer, []
    monkeypatch.setattr(benchmark, "_answer", lambda *a: answers.append(1) or answer(*a))
    counts = []
    for size in [(56, 84), (56, 84), (112, 140)]:
        benchmark.run(dict(pair.inputs([pairs.image(1, size), pairs.QUESTION])))
        counts.append(len(answers))
        del answers[:]
    first_of_all = 3  # to warm up, for its memory, and timed
    fixed = len(benchmark._warm) == 1  # LLaVA makes every image one size
    assert counts == [first_of_all, 1, 1 if fixed else 2]


@pytest.mark.slow
def test_table_3_has_the_mean_time_and_the_memory_of_the_first_three(pair):
    benchmark = InterleavedBenchmark(pair.model, SETTINGS, ("original", "zspa"))
    for seed in range(SAMPLES + 1):
        benchmark.run(dict(pair.inputs([pairs.image(seed), pairs.QUESTION])), seed)
    rows = benchmark.rows()
    text = paper_table_3(ABOUT | {"rows": rows})
    assert text.startswith("The paper's columns: LLaVA-1.5-7B")
    lines = text.splitlines()[2:]
    assert lines[0] == "|  | original, here | zspa, here | original, paper | divprune, paper | zspa, paper |"
    assert lines[2].endswith("| 365.6 | 256.9 | 264.2 |") and f"{rows[1]['average']:.4g}" in lines[2]
    assert len(lines) == 3 + 2 * SAMPLES and lines[4].endswith("| 14336.8 | 14164.8 | 14164.8 |")


def test_the_limit_computes_what_the_pruned_model_computes(pair):
    inputs = dict(pair.inputs([pairs.image(), pairs.QUESTION]))
    given = packed_prompt(pair.model, inputs, SETTINGS.pruner("zspa", pair.model.config))
    numbered = "position_ids" in given  # by us, or by the stock class itself
    assert numbered == (pair.family != "qwen2_5_vl")
    logits = stock_view(pair.model)(**given).logits[:, -1]
    own = pair.model(**inputs).logits[:, -1]
    assert logits.shape == own.shape
    if numbered:
        torch.testing.assert_close(logits, own)


def test_methods_take_turns_in_every_order_equally_often():
    few = ("original", "zspa", "limit")
    orders = [tuple(in_turn(few, turn)) for turn in range(6)]
    assert sorted(orders) == sorted(permutations(few)) and orders == [
        tuple(in_turn(few, turn)) for turn in range(6, 12)
    ]
    assert orders != list(permutations(few))
    assert len({tuple(in_turn(METHODS, turn)) for turn in range(20)}) == 20


def test_tensor_memory_counts_what_is_alive():
    with TensorMemory() as memory:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = torch.zeros(500)
        assert memory.alive == 6000 and memory.peak == 8000
        del b, c
        assert memory.alive == 0


NAMES = [
    name
    for name, shape in shapes.SHAPES.items()
    if name in shapes.published() and shape.config["model_type"] in (*tiny.FAMILIES, *tiny.OTHER_FAMILIES)
]
BILLIONS = {  # of parameters, as the Hub or the publisher counts them where the name does not say it to 8 per cent
    "qwen3-vl-8b": 8.8, "qwen2-vl-7b": 8.3, "qwen2.5-vl-7b": 8.3, "llava-onevision-7b": 8.0, "glm-4.1v-9b": 10,
    "glm-4.5v": 106, "command-a-vision": 112, "gemma-4-e4b": 8, "kimi-k2.5": 1000, "smolvlm2-2.2b": 2.25,
    "smolvlm-2.2b": 2.25,
}  # fmt: skip


TOKENS = {  # of an image; of those that have any size 4 x 6
    "llava-1.5-7b": 576, "llava-next-7b": 576 + 48 * 49, "llava-onevision-7b": 729 + 54 * 55, "gemma-3-4b": 256,
    "gemma-4-e4b": 256, "paligemma-3b": 256, "mistral-small-3.1-24b": 36 * 36, "internvl3-8b": 7 * 256,
    "aya-vision-8b": 7 * 169, "command-a-vision": 7 * 256, "smolvlm2-2.2b": 17 * 81, "smolvlm-2.2b": 17 * 81,
    "lfm2-vl-1.6b": 5 * 256,
}  # fmt: skip
QUICK = ("llava-1.5-7b", "qwen3-vl-8b", "lfm2-vl-1.6b")
EACH = pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])


@EACH
def test_a_shape_has_the_size_of_its_model(name):
    with torch.device("meta"):
        model = shapes.build(name, torch.device("meta"), torch.bfloat16)
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    said = BILLIONS.get(name) or float(re.findall(r"([\d.]+)b", name)[0])
    assert found == pytest.approx(said, rel=0.08) and model.dtype == torch.bfloat16


def test_every_family_has_the_shape_of_a_published_model():
    """But for one, of whose type none has been published."""
    assert {*FAMILIES} - {shape.config["model_type"] for shape in shapes.SHAPES.values()} == {"glm46v"}


@EACH
def test_shapes_prune_batches_of_several_images(name, monkeypatch):
    """With every width divided, because nothing here depends on it."""
    model = tiny_model(name, monkeypatch)
    size = {"patches": (8, 12)} if shapes.SHAPES[name].packed else {}
    given = shapes.inputs(name, model, shapes.Prompt(batch=2, images=2, **size))
    tokens = int((given["input_ids"][0] == model.config.image_token_id).sum())
    assert tokens == 2 * TOKENS.get(name, 24)
    selected = model.select_visual_tokens(**given)
    assert [len(kept) for kept in selected] == [int(max(1, tokens / 20 + 0.5))] * 4
    methods = tuple(method for method in METHODS if method != "limit" or takes_embeddings(model))
    assert ("limit" in methods) == (name not in ("gemma-3-4b", "gemma-4-e4b", "paligemma-3b"))
    benchmark = InterleavedBenchmark(model, Settings(new_tokens=2), methods)
    benchmark.run(shapes.inputs(name, model, shapes.Prompt(**size)))
    samples = {row["method"]: row["samples"][0] for row in benchmark.rows()}
    original, pruned = samples["original"], samples["zspa"]
    assert original["cache_bytes"] > pruned["cache_bytes"] and pruned["kept"] == round(tokens / 20)


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "llava-1.5-7b", "internvl3-8b", "lfm2-vl-1.6b"])
def test_resized_is_a_smaller_image_or_averages_or_refused(name, monkeypatch):
    model = tiny_model(name, monkeypatch)
    prompt = shapes.Prompt(patches=(16, 24)) if name.startswith("qwen") else shapes.Prompt()
    if name == "lfm2-vl-1.6b":
        with pytest.raises(
            ValueError, match=r"--methods has resized, which is not for the shape lfm2-vl-1\.6b: leave it out"
        ):
            shapes.resized(name, model, prompt, 0.1)
        return
    smaller = shapes.resized(name, model, prompt, 0.1)
    benchmark = InterleavedBenchmark(model, Settings(new_tokens=2), ("original", "zspa", "resized", "random"))
    encode, encoded = benchmark._encode, []
    monkeypatch.setattr(benchmark, "_encode", lambda given: encoded.append(len(given["pixel_values"])) or encode(given))
    benchmark.run(shapes.inputs(name, model, prompt), 0, smaller)
    rows = {row["method"]: row for row in benchmark.rows()}
    kept = {method: row["samples"][0]["kept"] for method, row in rows.items()}
    if name.startswith("qwen"):
        assert kept == {"original": 96, "zspa": 10, "resized": 2 * 3, "random": 10}
        assert rows["resized"]["selection"] is None and encoded == [16 * 24, 4 * 6]  # patches
    elif name == "internvl3-8b":  # six tiles and the whole image
        assert kept == {"original": 1792, "zspa": 179, "resized": 169, "random": 179}
    else:
        assert kept == {"original": 576, "zspa": 58, "resized": 49, "random": 58}
        assert rows["resized"]["selection"] and encoded == [1]
    sizes = {method: row["samples"][0]["cache_bytes"] for method, row in rows.items()}
    assert sizes["resized"] < sizes["zspa"] == sizes["random"] < sizes["original"]


def test_at_keep_ratio_1_every_method_is_the_stock_model(monkeypatch):
    config, full = tiny_model("llava-1.5-7b", monkeypatch).config, Settings(keep_ratio=1.0)
    for method in ("original", "zspa", "resized", "tome"):
        assert (
            full.asked_of_generate(method, config) == {"zspa_keep_ratio": 1.0} and full.kept(method, [9], config) == 9
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_small_shape_has_layers_of_the_kinds_that_its_model_has(name):
    def kinds(name):
        with torch.device("meta"):
            return set(shapes.build(name, torch.device("meta"), torch.bfloat16).config.get_text_config().layer_types)

    if hasattr(AutoConfig.for_model(**shapes.SHAPES[name].config).get_text_config(), "layer_types"):
        assert kinds(f"{name}-small") == kinds(name)


@pytest.mark.parametrize("name", shapes.published())
def test_no_word_of_a_prompt_stands_for_an_image(name):
    known = shapes.SHAPES[name]
    of_config = {value for key, value in known.config.items() if key.endswith(("token_id", "token_index"))}
    written = {*shapes._written(known.image, 1, placeholder=-1)}
    assert len(of_config) >= 1 and not {*range(*shapes.WORDS)} & (of_config | written)


def test_a_shape_has_videos(monkeypatch):
    model = tiny_model("qwen2.5-vl-7b-small", monkeypatch)
    given = shapes.inputs("qwen2.5-vl-7b-small", model, shapes.Prompt(frames=6, patches=(8, 8)))
    assert int((given["input_ids"] == model.config.video_token_id).sum()) == 3 * 4 * 4
    assert [len(kept) for kept in model.select_visual_tokens(**given)] == [5]


@pytest.mark.slow
def test_scaling_measures_every_axis_and_fits_it(monkeypatch):
    tiny_model("qwen2.5-vl-7b-small", monkeypatch)
    small = scaling.Selection(n=16, d=8)
    monkeypatch.setattr(scaling, "selections", lambda: {"visual tokens": {n: replace(small, n=n) for n in (16, 32)}})
    frames = {f: scaling.Answer(shapes.Prompt(patches=(8, 8), frames=f), Settings(new_tokens=2)) for f in (2, 4)}
    monkeypatch.setattr(scaling, "answers", lambda: {"frames of a video": frames})
    done: list[str] = []
    results = scaling.measure("qwen2.5-vl-7b-small", torch.device("cpu"), 2, done.append)
    assert len(done) == 4
    found = results["answer"]["frames of a video"]
    assert [found[f]["zspa"]["visual_tokens"] for f in (2, 4)] == [16, 32]
    assert found[2]["original"]["cache_bytes"] > found[2]["zspa"]["cache_bytes"] == found[2]["limit"]["cache_bytes"]
    assert "| 32 → 3 |" in scaling.markdown(results) and scaling.markdown(results).count("grows with the power") == 2


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
    assert scaling.power({x: 3 * x**1.5 for x in (1.0, 2.0, 5.0)}) == pytest.approx((1.5, 0.0), abs=1e-6)
    assert scaling.power({1.0: 1.0, 2.0: 4.0}) == (2.0, 0.0)
    slope, error = scaling.power({1.0: 1.0, math.e: math.exp(1.5), math.e**2: math.exp(2.0)})
    assert slope == pytest.approx(1.0) and error == pytest.approx(math.sqrt(1 / 12), abs=1e-6)


def test_the_interval_of_a_median_is_that_of_the_sign_test():
    assert median_interval([1.0] * 5) is None
    assert median_interval([6.0, 1.0, 5.0, 2.0, 4.0, 3.0]) == (1.0, 6.0)
    assert median_interval([float(i) for i in range(1, 26)]) == (8.0, 18.0)  # as tables of the sign test have it


def test_an_interval_holds_the_median_as_often_as_it_says():
    draw = random.Random(0)
    found = [median_interval([draw.lognormvariate(0, 1) for _ in range(24)]) for _ in range(2000)]
    assert 0.95 <= sum(low <= 1 <= high for low, high in found) / len(found) < 0.99


@pytest.mark.parametrize("tokens, left_behind", [(100, False), (1100, True)])
def test_a_profile_of_the_selection_names_its_parts(tokens, left_behind):
    init = GreedyOnCpu.__init__
    n, kind, *numbers = profile(tokens, "random", 0)
    total, *parts, passes, of_pairs, of_kept, rate, of_one_product = map(float, numbers)
    spent = dict(zip(PARTS, parts, strict=True))
    assert (n, kind) == (str(tokens), "random") and spent["norms"] and spent["relevance"] and spent["similarities"]
    assert bool(spent["leaving behind"]) == bool(spent["guesses"]) == left_behind
    assert sum(parts) <= total * 1.01 and passes >= 1  # times have three digits
    assert rate > 0 and of_one_product > 0 and 0 < of_pairs < 1 and of_kept == pytest.approx(of_pairs * 10, rel=0.1)
    assert GreedyOnCpu.__init__ is init
