"""What `hf-zspa eval` is asked for: the cells that a request means, and the requests that are refused."""

import shutil
import sys

import pytest
from asking import request
from rich.console import Console

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.cli import main
from hf_zspa.evaluation import command
from hf_zspa.evaluation.cells import CORE_RATIOS, Cell, make_cell, plan, pooling_cells, table_plan
from hf_zspa.evaluation.command import evaluate
from hf_zspa.evaluation.lmms_model import HfZspa
from hf_zspa.evaluation.requests import SampleError
from hf_zspa.evaluation.scoring import ScoreError
from hf_zspa.scenes import CHECKPOINT


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


OPEN = {"methods": None, "keep_ratios": None}  # what a table sets itself


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["divprun"]}, "no method 'divprun'"),
        ({"methods": []}, "--methods names no method: choose from original"),
        ({"keep_ratios": [1.5]}, "keep ratio is 1.5"),
        ({"core_ratios": [-0.1]}, "core ratio is -0.1"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"tasks": ["zspa_scene"]}, "no task zspa_scene"),
        ({"tasks": []}, "--tasks names no task"),
        ({"table": 2}, "--table 2 sets --methods, --keep-ratio itself"),
        ({"table": 4, **OPEN, "pooling": "max"}, "--table 4 sets --pooling itself"),
        ({"table": 2, **OPEN, "seed": 1}, "--seed is for random, none of which is measured here: leave it out"),
        ({"seed": 1}, "--seed is for random"),
        ({"methods": ["divprune"], "core_ratios": [0.4]}, "--core-ratio is for zspa"),
        ({"methods": ["mmtok"], "pooling": "max"}, "--pooling is for relevance, zspa"),
        ({"methods": ["original"]}, "--keep-ratio is for relevance, divprune"),
        ({"checkpoint": str(CHECKPOINT)}, "does not prune: .*hf-zspa convert"),
        ({"checkpoint": str(CHECKPOINT), "methods": ["original"]}, "--keep-ratio is for"),
    ],
)
def test_a_request_that_makes_no_sense_is_named_and_leaves_nothing_behind(loaded_once, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(request(tmp_path / "out", **arguments), Console())
    assert not (tmp_path / "out").exists()


def test_what_a_method_reads_may_be_set_although_another_does_not_read_it(loaded_once, tmp_path):
    asked = request(tmp_path, methods=["divprune", "random", "zspa"], core_ratios=[0.4], seed=5, limit=2)
    rows = evaluate(asked, Console())["rows"]
    assert {(row["method"], row["core_ratio"], row["seed"]) for row in rows} == {
        ("divprune", None, None), ("random", None, 5), ("zspa", 0.4, None),
    }  # fmt: skip


def test_several_processes_are_refused(loaded_once, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"runs in one process, but was started in 2.*python -m lmms_eval"):
        evaluate(request(tmp_path / "out"), Console())


def test_a_file_in_place_of_the_folder_is_refused(loaded_once, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="out is a file: give a folder"):
        evaluate(request(tmp_path / "out"), Console())


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `hf-zspa eval` and gives its exit status and what it prints on either stream."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hf-zspa", "eval", *arguments, "--output", str(tmp_path)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("error", [SampleError, ScoreError])
def test_what_goes_wrong_on_the_way_is_one_line_and_no_traceback(run, monkeypatch, error):
    def fail(asked, console):
        raise error("sample 3 of pope (test) failed: OSError: no such picture")

    monkeypatch.setattr(command, "evaluate", fail)
    status, _, err = run("embedded")
    assert status == 1 and err == "hf-zspa: sample 3 of pope (test) failed: OSError: no such picture\n"


def test_the_command_shows_the_table_and_says_where_the_rest_is(run, loaded_once, tmp_path):
    status, out, _ = run("embedded", "--tasks", "zspa_scenes_chart", "--methods", "original,zspa", "--limit", "2")
    words = " ".join(out.split())
    assert not status and "Scores (measured here)" in words and "Paired differences" not in words
    assert f"2 rows in {tmp_path / 'results.json'}, see {tmp_path / 'results.md'}" in words


def test_foreign_code_is_not_run_unasked(run, tmp_path):
    folder = shutil.copytree(checkpoint_folder("embedded"), tmp_path / "foreign")
    with (folder / "modeling_zspa_llava.py").open("a") as file:
        file.write("raise SystemExit(7)\n")
    arguments = (str(folder), "--tasks", "zspa_scenes_chart", "--methods", "zspa", "--limit", "1")
    status, _, err = run(*arguments)
    assert status == 1 and "is not run before it passes hf-zspa verify: modeling_zspa_llava.py line" in err
    with pytest.raises(ValueError, match="is not run before it passes"):
        HfZspa(str(folder))
    assert run(*arguments, "--trust-remote-code")[0] == 7
