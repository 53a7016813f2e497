"""One writer of Markdown tables, and that the tables beside the measurements are made of them."""

import json
from pathlib import Path

import pytest
import scaling
import selection
import serving
import study_report

from hf_zspa.bench import report
from hf_zspa.output import markdown_table
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
