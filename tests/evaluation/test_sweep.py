"""Sweeps: they resume, they refuse what was measured otherwise, and the rows are true to lmms-eval's own results."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from asking import TASKS, request
from PIL import Image
from rich.console import Console

from hf_zspa.evaluation import fitting
from hf_zspa.evaluation import sweep as sweep_module
from hf_zspa.evaluation.cells import CORE_RATIOS, TOKEN_METHODS, make_cell
from hf_zspa.evaluation.command import evaluate
from hf_zspa.evaluation.stages import STAGES
from hf_zspa.evaluation.sweep import Sweep
from hf_zspa.scenes.questions import KINDS


def rows_by_setting(results):
    return {(row["task"], row["method"], row["core_ratio"], row["pooling"]): row for row in results["rows"]}


def test_rows_agree_with_lmms_eval_and_differences_are_those_of_the_samples(
    loaded_once, embedded, evaluate_tasks, tmp_path
):
    results = evaluate(request(tmp_path), Console())
    rows = rows_by_setting(results)
    embedded.use_method("zspa", keep_ratio=0.1)
    alone = evaluate_tasks(embedded, ["zspa_scenes_chart"], limit=10)
    row = rows["zspa_scenes_chart", "zspa", 0.2, "mean"]
    assert row["value"] == pytest.approx(100 * alone["results"]["zspa_scenes_chart"]["exact_match,none"])
    other = rows["zspa_scenes_chart", "divprune", None, None]
    assert row["minus_divprune"]["value"] == pytest.approx(row["value"] - other["value"])
    assert row["interval"][0] <= row["value"] <= row["interval"][1]
    assert (row["n"], row["visual_tokens"], row["kept_tokens"], row["failed"]) == (10, 144, 14, 0)
    assert row["stages"].keys() == {*STAGES} and all(row["stages"].values())
    assert rows["zspa_scenes_chart", "original", None, None]["stages"]["selection"] == 0
    assert rows["zspa_scenes_chart", "original", None, None]["kept_tokens"] == 144
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == results["rows"]
    assert "| zspa, core 0.2, keep 0.1 | 144 → 14.0 |" in (tmp_path / "results.md").read_text()


def test_an_interrupted_sweep_goes_on_where_it_stopped_and_ends_the_same(loaded_once, embedded, tmp_path, monkeypatch):
    whole = evaluate(request(tmp_path / "whole"), Console())
    ran, generate = [], embedded.generate_until

    def third_time_interrupted(requests):
        ran.append(embedded.method)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return generate(requests)

    monkeypatch.setattr(embedded, "generate_until", third_time_interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(request(tmp_path / "cut"), Console())
    assert len(list((tmp_path / "cut" / "cells").iterdir())) == 2
    resumed = evaluate(request(tmp_path / "cut"), Console())
    assert len(ran) == 3 + 4  # six cells: two were done, the third is run again
    timeless = lambda rows: [{k: v for k, v in row.items() if k not in ("seconds", "stages")} for row in rows]  # noqa: E731
    assert timeless(resumed["rows"]) == timeless(whole["rows"])
    evaluate(request(tmp_path / "cut"), Console())
    assert len(ran) == 7


def test_a_folder_of_other_settings_is_refused_with_both_values(loaded_once, tmp_path):
    evaluate(request(tmp_path, methods=["original"], keep_ratios=None), Console())
    with pytest.raises(ValueError, match=r"another sweep \(other limit \(10, now 11\)\): choose another --output"):
        evaluate(request(tmp_path, methods=["original"], keep_ratios=None, limit=11), Console())


CELL = make_cell("zspa_scenes_attribute", "random", 0.25, seed=3)


@pytest.fixture
def measured(embedded, manager, tmp_path):
    """A folder with one measured cell, and a function that takes the sweep up again."""
    again = lambda: Sweep(embedded, manager, tmp_path, limit=5)  # noqa: E731
    again().run(CELL)
    return tmp_path, again


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("folder_digests", {"model.safetensors": "other"}, "model.safetensors"),
        ("folder_digests", {"zspa_selection.py": "other"}, "zspa_selection.py"),
        ("source_digests", {"hf_zspa/pruners/others.py": "other"}, "hf_zspa/pruners/others.py"),
        ("versions", {"transformers": "6.1.0"}, r"transformers \(.*, now 6\.1\.0\)"),
    ],
)
def test_a_folder_of_other_weights_code_or_versions_is_refused(measured, monkeypatch, name, changed, message):
    _, again = measured
    real = getattr(sweep_module, name)
    monkeypatch.setattr(sweep_module, name, lambda *arguments: real(*arguments) | changed)
    with pytest.raises(ValueError, match=rf"another sweep \(other {message}\): choose another --output"):
        again()


@pytest.mark.parametrize("field", ["task", "seed", "data", "sweep"])
def test_a_cell_that_is_about_something_else_is_refused(measured, field):
    folder, again = measured
    file = folder / "cells" / f"{CELL.name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: "another"}))
    with pytest.raises(ValueError, match=rf"{CELL.name}\.json was measured with other {field}: delete it"):
        again().run(CELL)


@pytest.mark.parametrize("damage", [{"value": 12.5}, {"documents": []}, {"scores": None}, {"setup": ...}])
def test_a_damaged_cell_is_named_and_not_taken_for_a_result(measured, damage):
    folder, again = measured
    file = folder / "cells" / f"{CELL.name}.json"
    kept = {name: value for name, value in (json.loads(file.read_text()) | damage).items() if value is not ...}
    file.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=rf"{CELL.name}\.json is damaged .*: delete it and run again"):
        again().run(CELL)
    file.write_text("{")
    with pytest.raises(ValueError, match=rf"{CELL.name}\.json is not valid JSON.*: delete it and run again"):
        again().run(CELL)


def test_a_cell_with_failed_samples_is_measured_again(embedded, manager, tmp_path, monkeypatch):
    sweep, generate = Sweep(embedded, manager, tmp_path, limit=5), embedded.model.generate

    def fail(**arguments):
        raise OSError("out of luck")

    monkeypatch.setattr(embedded, "on_error", "count")
    monkeypatch.setattr(embedded.model, "generate", fail)
    assert sweep.run(CELL).failed == 5
    monkeypatch.setattr(embedded.model, "generate", generate)
    assert sweep.run(CELL).failed == 0 == sweep.measured(CELL).failed


def test_the_average_of_an_embedded_group_weighs_its_kinds_equally(loaded_once, tmp_path):
    results = evaluate(request(tmp_path, tasks=["zspa_scenes"], limit=6), Console())
    kinds = [row for row in results["rows"] if row["method"] == "zspa" and "average" not in row["task"]]
    average = [row for row in results["rows"] if row["task"] == "zspa_scenes average" and row["method"] == "zspa"]
    assert len(kinds) == len(KINDS)
    assert [row["value"] for row in average] == [pytest.approx(np.mean([row["value"] for row in kinds]))]


def test_table_4_end_to_end_measures_three_poolings_at_one_core_ratio(loaded_once, tmp_path):
    results = evaluate(request(tmp_path, table=4, methods=None, keep_ratios=None, tasks=TASKS[:1], limit=4), Console())
    poolings = {}
    for row in results["rows"]:
        if row["method"] == "zspa":
            poolings.setdefault(row["pooling"], []).append(row["core_ratio"])
    assert len(poolings["mean"]) == len(CORE_RATIOS)
    assert poolings["max"] == poolings["none"] and len(poolings["max"]) == 1
    assert "## Table 4" in (tmp_path / "table-4.md").read_text()


def test_the_page_names_the_methods_of_the_table_of_tokens():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^.*eval CKPT --table tokens.* MMMU, of (.*) and the checkpoint's own.*$", page, re.MULTILINE)
    assert ("original", *re.findall(r"`(\w+)`", row)) == TOKEN_METHODS


@pytest.fixture
def unfit(embedded, monkeypatch):
    """The model has DeepStack, and sees no square."""
    monkeypatch.setattr(embedded.model.config.vision_config, "deepstack_visual_indexes", [0], raising=False)
    monkeypatch.setattr(fitting, "square", lambda config: None)


REASONS = {
    "tome": "'tome' averages visual tokens, and llava has DeepStack, whose features of them cannot be averaged",
    "resized": "'resized' is for models that scale images by area or see them in squares, not for llava",
}


def test_a_table_leaves_out_what_the_model_cannot_be_measured_under_and_says_so(loaded_once, unfit, tmp_path, capsys):
    asked = request(tmp_path, table="tokens", methods=None, keep_ratios=None, tasks=["zspa_scenes_chart"], limit=1)
    found = evaluate(asked, Console(file=sys.stderr, width=40))
    assert {row["method"] for row in found["rows"]} == {*TOKEN_METHODS} - {*REASONS}
    assert found["left_out"] == REASONS and "resized" not in found
    text, said = (tmp_path / "table-tokens.md").read_text(), capsys.readouterr().err
    for reason in REASONS.values():
        assert f"\nLeft out: {reason}.\n" in text and f"Left out: {reason}\n" in said
    assert said.index("Left out") < said.index("1 of ")


@pytest.mark.parametrize("method", REASONS)
@pytest.mark.parametrize("table", [None, "tokens"])
def test_a_method_that_was_named_is_refused_before_anything_is_measured(loaded_once, unfit, tmp_path, table, method):
    asked = request(tmp_path, methods=["original", "zspa", method], table=table, keep_ratios=None)
    with pytest.raises(ValueError, match=f"{REASONS[method]}: leave this method out"):
        evaluate(asked, Console())
    assert not (tmp_path / "cells").exists()


def test_the_table_of_tokens_end_to_end_has_the_models_own_counts(loaded_once, tmp_path):
    asked = {"methods": ["resized", "divprune"], "keep_ratios": None, "limit": 12}
    found = evaluate(request(tmp_path, table="tokens", **asked), Console())
    kept = {(row["method"], row["keep_ratio"]): row["kept_tokens"] for row in found["rows"]}
    ratios = [tokens / 576 for tokens in (192, 128, 64, 32)]
    assert [kept["divprune", keep] for keep in ratios] == [48, 32, 16, 8] and kept["original", 1.0] == 144
    assert [kept["resized", keep] for keep in ratios] == [36, 25, 16, 4]
    scores = {(row["method"], row["keep_ratio"], row["task"]): row["value"] for row in found["rows"]}
    for share in found["shares_of_full"]:
        left = [scores[share["method"], share["keep_ratio"], task] / scores["original", 1.0, task] for task in TASKS]
        assert share["value"] == pytest.approx(100 * sum(left) / len(left))
        assert share["interval"][0] <= share["value"] <= share["interval"][1]
    assert [share["keep_ratio"] for share in found["shares_of_full"]] == ratios * 2
    assert "| method | 48 tokens | 32 tokens | 16 tokens | 8 tokens |" in (tmp_path / "table-tokens.md").read_text()
    with pytest.raises(ValueError, match="--table tokens sets --keep-ratio itself"):
        evaluate(request(tmp_path, table="tokens", **asked | {"keep_ratios": [0.1]}), Console())


def test_tables_and_other_results_stand_side_by_side_in_one_folder(loaded_once, tmp_path):
    (tmp_path / "table-2-core-ratio.png").write_bytes(b"of an earlier run")
    (tmp_path / "results-core-ratio.png").write_bytes(b"of an earlier run")
    evaluate(request(tmp_path, table=2, methods=None, keep_ratios=None, tasks=TASKS[:1], limit=4), Console())
    evaluate(request(tmp_path, methods=["original", "zspa"], tasks=TASKS[:1], limit=4), Console())
    found = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert found == {
        "table-2.json", "table-2.md", "table-2-core-ratio.png", "results.json", "results.md", "sweep.json",
        "lmms-eval.log",
    }  # fmt: skip
    assert Image.open(tmp_path / "table-2-core-ratio.png").width > 100


def test_measurements_read_from_disk_are_those_that_were_written(measured, embedded, monkeypatch):
    fresh = measured[1]().run(CELL)
    monkeypatch.setattr(embedded, "generate_until", None)
    again = measured[1]().run(CELL)
    assert fresh.score.value == again.score.value and fresh.documents == again.documents
    assert np.array_equal(fresh.score.per_sample, again.score.per_sample) and fresh.setup == again.setup
