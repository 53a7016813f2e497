"""The numbers on the pages of results are those of the files that were measured."""

import json
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGE = runpy.run_path(str(RESULTS / "page.py"))


@pytest.mark.parametrize("page", PAGE["PAGES"], ids=lambda page: page.name)
def test_the_page_shows_the_measured_numbers(page):
    text = page.read_text(encoding="utf-8")
    blank = PAGE["MARKED"].sub(r"\1nothing\4", text)
    assert blank != text, "no marked table"
    assert PAGE["filled"](blank) == text


@pytest.mark.parametrize(
    ("script", "stem"),
    [
        ("methods_report", "methods"),
        ("fastv", "fastv"),
        *(("study_report", f"settings-{it}") for it in ("llava", "qwen")),
    ],
)
def test_a_page_of_a_study_is_written_from_its_file(script, stem):
    written = import_module(script).markdown(json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8")))
    assert written == (RESULTS / f"{stem}.md").read_text(encoding="utf-8")


def test_what_tuning_was_judged_on_is_what_the_script_says():
    tune_check = import_module("tune_check")
    found = json.loads((RESULTS / "tune-check.json").read_text(encoding="utf-8"))["models"]
    assert {*found} == {*tune_check.MODELS}
    for name, of_model in found.items():
        photographs = tune_check.MODELS[name] is tune_check.PHOTOGRAPHS
        cases = [(case["kind"], case["tuned_on"], case["agreement"]) for case in of_model["cases"]]
        assert cases == [*(tune_check.PAGE_CASES if photographs else tune_check.SCENE_CASES)]
        assert of_model["rows"] == tune_check.ROWS


def test_every_table_of_methods_or_of_the_paper_is_marked():
    for page in PAGE["PAGES"]:
        rest = PAGE["MARKED"].sub("", page.read_text(encoding="utf-8"))
        assert not re.search(r"^\| (method|benchmark|model) \|", rest, re.MULTILINE), page.name


def test_eval_and_the_study_agree_as_the_page_says():
    """But for one question, on the methods that both have and draw nothing at random."""
    names = {
        "zspa": "zspa, core 0.2", "divprune": "zspa, core 0.0", "weighted": "weighted", "dpp": "DPP",
        "conditional_dpp": "CDPruner's formula", "mmtok": "MMTok's formula",
    }  # fmt: skip
    study = {(row["model"], row["keep_ratio"], row["name"]): row["average"] for row in PAGE["_judged"]()}
    compared = 0
    for model in PAGE["MODELS"]:
        rows = [row for row in PAGE["_rows"](model) if PAGE["_kind"](row) == "average" and row["keep_ratio"] < 1]
        for row in rows:
            if row["method"] in names and row["core_ratio"] in (None, 0.2):
                other = study[model, row["keep_ratio"], names[row["method"]]]
                assert row["value"] == pytest.approx(other, abs=100.1 / row["n"]), (
                    model,
                    row["method"],
                    row["keep_ratio"],
                )
                compared += 1
    assert compared == len(PAGE["MODELS"]) * 3 * len(names)
