"""Sweeps: which cells a request means, that they resume, and that the rows are true to lmms-eval's own results."""

import json

import numpy as np
import pytest
from rich.console import Console

from hf_zspa.embedded.questions import KINDS
from hf_zspa.evaluation import command
from hf_zspa.evaluation.cells import CORE_RATIOS, Cell, make_cell, plan, pooling_cells, table_plan
from hf_zspa.evaluation.command import Request, evaluate
from hf_zspa.evaluation.sweep import Sweep

TASKS = ["zspa_scenes_attribute", "zspa_scenes_chart"]


@pytest.fixture
def loaded_once(embedded, monkeypatch):
    """The command uses the model that is loaded already."""
    monkeypatch.setattr(command, "HfZspa", lambda checkpoint, **arguments: embedded)


def request(folder, **arguments):
    given = {"tasks": TASKS, "methods": ["original", "divprune", "zspa"], "keep_ratios": [0.1], "limit": 10}
    return Request("embedded", folder, **(given | arguments))


def rows_by_setting(results):
    return {(row["task"], row["method"], row["core_ratio"], row["pooling"]): row for row in results["rows"]}


def test_the_ends_of_the_dial_are_the_baselines_and_run_once():
    cells = plan(["pope"], ["zspa", "divprune", "relevance", "original"], [0.1], [0.0, 0.5, 1.0], "mean")
    assert cells == [
        Cell("pope", "original"),
        Cell("pope", "divprune", 0.1),
        Cell("pope", "zspa", 0.1, 0.5, "mean"),
        Cell("pope", "relevance", 0.1, None, "mean"),
    ]


def test_a_keep_ratio_of_one_is_the_unpruned_model():
    assert make_cell("pope", "zspa", 1.0, 0.2, "mean") == Cell("pope", "original")


def test_table_1_sweeps_the_core_ratio_beside_the_checkpoints_own():
    cells = [cell for cell in table_plan(1, ["pope"], 0.25, "mean") if cell.method == "zspa"]
    assert [cell.core_ratio for cell in cells] == sorted([*CORE_RATIOS, 0.25])
    assert {cell.task for cell in table_plan(1, None, 0.2, "mean")} == {
        "mmmu_val", "gqa", "ai2d", "pope", "textvqa_val", "chartqa",
    }  # fmt: skip


def test_table_4_takes_each_pooling_at_the_tasks_own_best_core_ratio():
    cells = pooling_cells({"mmmu_val": 0.4, "pope": 0.2})
    assert {(cell.task, cell.core_ratio, cell.pooling) for cell in cells} == {
        (task, core, pooling)
        for task, core in (("mmmu_val", 0.4), ("pope", 0.2))
        for pooling in ("mean", "max", "none")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["divprun"]}, "no method 'divprun'"),
        ({"keep_ratios": [1.5]}, "keep ratio is 1.5"),
        ({"core_ratios": [-0.1]}, "core ratio is -0.1"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"tasks": ["zspa_scene"]}, "no task zspa_scene"),
        ({"table": 2}, "--table 2 sets --methods, --keep-ratio itself"),
    ],
)
def test_bad_requests_are_named_and_measure_nothing(loaded_once, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(request(tmp_path / "out", **arguments), Console())
    assert not list(tmp_path.rglob("cells/*"))


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
    timeless = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert timeless(resumed["rows"]) == timeless(whole["rows"])
    evaluate(request(tmp_path / "cut"), Console())
    assert len(ran) == 7


def test_a_folder_of_another_sweep_is_refused(loaded_once, tmp_path):
    evaluate(request(tmp_path, methods=["original"]), Console())
    with pytest.raises(ValueError, match=r"another sweep \(other limit\): choose another --output"):
        evaluate(request(tmp_path, methods=["original"], limit=11), Console())


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
    assert "## Table 4" in (tmp_path / "results.md").read_text()


def test_measurements_read_from_disk_are_those_that_were_written(embedded, manager, tmp_path):
    sweep = Sweep(embedded, manager, tmp_path, limit=5)
    cell = make_cell("zspa_scenes_attribute", "random", 0.25, None, None, seed=3)
    fresh, again = sweep.run(cell), sweep.run(cell)
    assert fresh.score.value == again.score.value and fresh.documents == again.documents
    assert np.array_equal(fresh.score.per_sample, again.score.per_sample)
