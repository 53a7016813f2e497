"""What `hf-zspa eval` is asked for: the cells that a request means, and the requests that are refused."""

import shutil
import sys

import pytest
from asking import request
from rich.console import Console

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.cli import main
from hf_zspa.evaluation import asked, command
from hf_zspa.evaluation.cells import CORE_RATIOS, Cell, make_cell, plan, pooling_cells, table_plan
from hf_zspa.evaluation.command import evaluate
from hf_zspa.evaluation.lmms_model import HfZspa
from hf_zspa.evaluation.requests import SampleError
from hf_zspa.evaluation.scoring import ScoreError
from hf_zspa.scenes import CHECKPOINT


def test_the_ends_of_the_dial_are_the_baselines_and_run_once():
    cells = plan(
        ["pope"],
        ["zspa", "divprune", "relevance", "original"],
        [0.1],
        {"core_ratio": [0.0, 0.5, 1.0], "pooling": ["mean"]},
    )
    assert cells == [
        Cell("pope", "original"),
        Cell("pope", "divprune", 0.1),
        Cell("pope", "zspa", 0.1, 0.5, "mean"),
        Cell("pope", "relevance", 0.1, None, "mean"),
    ]


def test_a_keep_ratio_of_one_is_the_unpruned_model():
    assert make_cell("pope", "zspa", 1.0, core_ratio=0.2) == Cell("pope", "original")


def test_table_1_sweeps_the_core_ratio_beside_the_checkpoints_own():
    cells = [cell for cell in table_plan(1, ["pope"], {"core_ratio": [0.25]}) if cell.method == "zspa"]
    assert [cell.core_ratio for cell in cells] == sorted([*CORE_RATIOS, 0.25])


def test_of_several_values_of_a_setting_each_method_gets_those_that_it_reads():
    settings = {
        "core_ratio": [0.2],
        "relevance_weight": [0.5, 0.75],
        "pooling": ["none"],
        "centre": [True],
        "seed": [4],
    }
    cells = plan(["pope"], ["weighted", "mmtok", "random", "zspa", "conditional_dpp"], [0.1], settings)
    weights = [Cell("pope", "weighted", 0.1, None, "none", None, weight, True) for weight in (0.5, 0.75)]
    others = [
        Cell("pope", "mmtok", 0.1, centre=True),
        Cell("pope", "random", 0.1, seed=4),
        Cell("pope", "zspa", 0.1, 0.2, "none", centre=True),
        Cell("pope", "conditional_dpp", 0.1, centre=True),
    ]
    assert cells == [*weights, *others]
    assert [cell.name for cell in cells[1:3]] == [
        "pope-weighted-keep0.1-weight0.75-none-centred",
        "pope-mmtok-keep0.1-centred",
    ]
    assert len({cell.name for cell in cells}) == len(cells)


def own(monkeypatch, **fields):
    """A checkpoint whose config says this."""
    read = asked.read_config
    monkeypatch.setattr(asked, "read_config", lambda folder: read(folder) | fields)


def test_a_checkpoint_is_measured_with_its_own_method_and_settings(loaded_once, tmp_path, monkeypatch):
    own(monkeypatch, zspa_method="weighted", zspa_relevance_weight=0.5, zspa_pooling="none", zspa_centre=True)
    results = evaluate(request(tmp_path, methods=None, tasks=["zspa_scenes_chart"], limit=2), Console())
    found = {row["method"]: (row["relevance_weight"], row["pooling"], row["centre"]) for row in results["rows"]}
    assert found == {
        "original": (None, None, None), "relevance": (None, "none", True), "divprune": (None, None, True),
        "weighted": (0.5, "none", True), "random": (None, None, None),
    }  # fmt: skip
    assert all(row["minus_divprune"] for row in results["rows"] if row["method"] not in ("original", "divprune"))
    assert "| weighted, weight 0.5, keep 0.1, pooling none, centred |" in (tmp_path / "results.md").read_text()
    table = request(tmp_path / "table", table=1, methods=None, keep_ratios=None, tasks=["zspa_scenes_chart"], limit=2)
    methods = [cell.method for cell in asked._cells(table, ["zspa_scenes_chart"], asked._own_fields(table))]
    assert methods.count("weighted") == 1 and methods.count("zspa") == len(CORE_RATIOS)


def test_table_4_takes_each_pooling_at_the_tasks_own_best_core_ratio():
    cells = pooling_cells(
        [make_cell("mmmu_val", "zspa", 0.1, core_ratio=0.4), make_cell("pope", "zspa", 0.1, core_ratio=0.2)]
    )
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
        ({"settings": {"core_ratio": [-0.1]}}, "core ratio is -0.1"),
        ({"settings": {"pooling": ["median"]}}, "pooling is 'median'"),
        ({"tasks": ["zspa_scene"]}, "no task zspa_scene"),
        ({"tasks": []}, "--tasks names no task"),
        ({"table": 2}, "--table 2 sets --methods, --keep-ratio itself"),
        ({"table": 4, **OPEN, "settings": {"pooling": ["max"]}}, "--table 4 sets --pooling itself"),
        (
            {"table": 2, **OPEN, "settings": {"seed": [1]}},
            "--seed is for random, none of which is measured here: leave it out",
        ),
        ({"settings": {"seed": [1]}}, "--seed is for random"),
        ({"settings": {"relevance_weight": [2]}, "methods": ["dpp"]}, "relevance weight is 2"),
        ({"settings": {"relevance_weight": [0.5]}}, "--relevance-weight is for weighted, dpp"),
        ({"settings": {"centre": [True]}, "methods": ["random"]}, "--centre is for relevance, divprune, zspa"),
        ({"methods": ["divprune"], "settings": {"core_ratio": [0.4]}}, "--core-ratio is for zspa"),
        ({"methods": ["mmtok"], "settings": {"pooling": ["max"]}}, "--pooling is for relevance, zspa"),
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
    asked = request(
        tmp_path, methods=["divprune", "random", "zspa"], settings={"core_ratio": [0.4], "seed": [5]}, limit=2
    )
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
