"""One writer of Markdown tables, and that the tables beside the measurements are made of them."""

import json
from pathlib import Path

import pytest
import scaling
import selection
import serving
import serving_cost
import study_report

from hf_zspa.bench import report
from hf_zspa.output import markdown_table, with_table
from hf_zspa.scenes.training import report as training

DOCS = Path(__file__).parents[2] / "docs"


def scaling_markdown(results):
    """JSON has made text of the values along an axis."""
    axes = {
        what: {axis: {json.loads(x): y for x, y in points.items()} for axis, points in results[what].items()}
        for what in ("selection", "answer")
    }
    return scaling.markdown(axes) + "\n"


MADE_OF = {
    "embedded-results.md": training.markdown,
    "performance/scaling-cpu.md": scaling_markdown,
    "performance/selection-cpu.md": lambda results: selection.markdown(results["rows"]) + "\n",
    "performance/serving-cost-cpu.md": lambda results: serving_cost.markdown(results["rows"]) + "\n",
    "performance/serving-qwen3-cpu.md": lambda results: serving.markdown(results["rows"]) + "\n",
    "performance/serving-cpu.md": lambda results: serving.markdown(results["rows"]) + "\n",
    "results/settings-llava.md": study_report.markdown,
    "results/settings-qwen.md": study_report.markdown,
    **{
        str(file.with_suffix(".md").relative_to(DOCS)): lambda results: report.markdown(results) + "\n"
        for file in (DOCS / "performance").glob("*/results.json")
    },
}


def test_a_table_is_a_header_a_rule_and_rows():
    assert markdown_table(["a", "b"], [["1", ""]]) == "| a | b |\n| --- | --- |\n| 1 |  |"
    assert markdown_table(["a"], []) == "| a |\n| --- |"


def test_a_row_that_is_not_as_wide_as_the_header_is_refused():
    with pytest.raises(ValueError, match=r"has 1 cells, but the header 2: \['1'\]"):
        markdown_table(["a", "b"], [["1"]])


@pytest.mark.parametrize("name", sorted(MADE_OF))
def test_the_tables_beside_a_measurement_are_made_of_it(name):
    page = DOCS / name
    results = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert page.read_text(encoding="utf-8") == MADE_OF[name](results)


def test_the_page_of_serving_has_what_was_measured():
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    for name, made in {"serving-cpu": serving, "serving-qwen3-cpu": serving, "serving-cost-cpu": serving_cost}.items():
        results = json.loads((DOCS / "performance" / f"{name}.json").read_text(encoding="utf-8"))
        assert with_table(page, name, f"{made.about(results)}\n\n{made.markdown(results['rows'])}") == page


def test_a_table_has_its_place_in_a_page():
    page = "a\n<!-- table b -->\nold\n<!-- end -->\nc"
    assert with_table(page, "b", "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="the page has no <!-- table d -->"):
        with_table(page, "d", "new")


def test_what_a_request_costs_beside_another_of_its_round():
    rows = [
        {"method": "stock", "prompt_tokens": 5, "time": [0.1] * 6, "cpu": [0.02] * 6},
        {"method": "zspa", "prompt_tokens": 4, "time": [0.1 + i / 100 for i in range(6)], "cpu": [0.01] * 6},
    ]
    *_, stock, zspa = serving_cost.markdown([{"side": 9, "answer": 1, **row} for row in rows]).splitlines()
    assert stock == "| 9 × 9 | 1 | stock | 5 | 100.0 |  |  | 20.0 |  |  |"
    more, times = "25.0 (0.0 to 50.0) | 1.250 (1.000 to 1.500)", "-10.0 (-10.0 to -10.0) | 0.500 (0.500 to 0.500)"
    assert zspa == f"| 9 × 9 | 1 | zspa | 4 | 125.0 | {more} | 10.0 | {times} |"
