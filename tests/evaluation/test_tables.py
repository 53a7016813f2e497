"""Tables and plots: our numbers and the paper's apart, nothing unpruned or failed goes unsaid."""

import builtins
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_zspa.evaluation.cells import CORE_RATIOS
from hf_zspa.evaluation.paper import paper_table
from hf_zspa.evaluation.plots import LOOKS, plot_core_ratio, plot_keep_ratio
from hf_zspa.evaluation.tables import markdown
from hf_zspa.pruners.registry import METHODS
from hf_zspa.version import install_command

MEASURED = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("file", sorted(MEASURED.glob("embedded*.json")), ids=lambda file: file.stem)
def test_the_tables_beside_a_sweep_are_made_of_it(file):
    results = json.loads(file.read_text(encoding="utf-8"))
    assert file.with_suffix(".md").read_text(encoding="utf-8") == markdown(results)


def setup(date="2026-01-02", **more):
    return {"date": date, "hardware": {"device": "CPU"}, "versions": {"torch": "2.13.0"}, "batch_size": 4} | more


def row(task, method, value, keep=0.1, core=None, pooling=None, **more):
    unpruned = method == "original"
    base = {
        "task": task, "method": method, "keep_ratio": 1.0 if unpruned else keep, "core_ratio": core,
        "pooling": pooling, "seed": None, "metric": "exact_match", "value": value, "n": 100,
        "interval": [value - 2, value + 4], "minus_original": None, "minus_divprune": None, "visual_tokens": 144.0,
        "kept_tokens": 144.0 if unpruned else 14.0, "failed": 0, "seconds": 1.0, "setup": setup(),
        "stages": {"inputs": 1.0, "vision": 2.0, "selection": 0.0, "prefill": 20.0, "decode": 4.0},
    }  # fmt: skip
    return base | more


def results(rows, table=None):
    return {
        "checkpoint": "some/checkpoint", "table": table, "settings": {"dtype": "float32", "limit": None},
        "zspa_core_ratio": 0.2, "rows": rows,
    }  # fmt: skip


def sweep(task):
    """A score that is best at core ratio 0.4."""
    scores = [row(task, "zspa", 60 - 100 * abs(core - 0.4), core=core, pooling="mean") for core in CORE_RATIOS]
    return [row(task, "original", 80.0), row(task, "divprune", 50.0), row(task, "relevance", 20.0), *scores]


def section(text, heading):
    return text.split(f"## {heading}")[1].split("\n## ")[0]


def test_table_1_has_the_fixed_default_and_beside_it_the_best_of_the_sweep_named_for_what_it_is():
    text = markdown(results(sweep("pope"), table=1))
    table = section(text, "Table 1")
    assert "| zspa, core 0.2, keep 0.1 | 144 → 14.0 | 40.0 ± 3.0 |" in table
    assert "| zspa, best core ratio (tuned on the test set) |  | 60.0 ± 3.0 at 0.4 |" in table
    assert "| original | 144 | 80.0 ± 3.0 |" in table


def test_table_1s_best_average_is_that_of_the_best_of_each_task():
    kinds = ("existence", "attribute", "relation", "reading", "chart", "extreme")
    rows = [
        row(f"zspa_scenes_{kind}", "zspa", 50.0 + 6 * (core == best), core=core, pooling="mean")
        for kind, best in zip(kinds, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
        for core in CORE_RATIOS
    ]
    rows += [row("zspa_scenes average", "zspa", 51.0, core=core, pooling="mean") for core in CORE_RATIOS[:6]]
    line = next(line for line in markdown(results(rows, table=1)).splitlines() if "tuned on the test set" in line)
    assert line.endswith("| 56.0 ± 3.0 at 0.6 | 56.0, each at its own |")


def test_table_2_goes_from_core_ratio_to_core_ratio():
    line = next(line for line in markdown(results(sweep("gqa"), table=2)).splitlines() if line.startswith("| GQA | 80"))
    cells = [cell.strip().split(" ±")[0] for cell in line.strip("|").split("|")]
    assert cells == ["GQA", "80.0", "30.0", "40.0", "50.0", "60.0", "50.0", "40.0", "30.0", "20.0", "10.0"]


def test_table_4_compares_poolings_at_table_2s_best_core_ratio():
    rows = sweep("pope") + [row("pope", "zspa", 59.0, core=0.4, pooling=name) for name in ("max", "none")]
    rows.append(row("pope", "zspa", 99.0, core=0.2, pooling="max"))
    assert "| POPE | 0.4 | 80.0 ± 3.0 | 59.0 ± 3.0 | 59.0 ± 3.0 | 60.0 ± 3.0 |" in markdown(results(rows, table=4))


def test_where_the_time_goes_is_said_per_method_as_the_mean_over_tasks():
    slower = {"inputs": 3.0, "vision": 2.0, "selection": 1.0, "prefill": 10.0, "decode": 4.0}
    rows = [row("gqa", "divprune", 50.0), row("pope", "divprune", 50.0, stages=slower, setup=setup(batch_size=8))]
    rows.append(row("zspa_scenes average", "divprune", 50.0, stages=dict.fromkeys(slower, 99.0)))
    table = section(markdown(results(rows)), "Where the time goes")
    assert "| divprune, keep 0.1 | 2.0 | 2.0 | 0.5 | 15.0 | 4.0 | 23.5 |" in table
    assert "batch size 4 and batch size 8" in table


def test_the_table_of_tokens_has_the_share_of_the_full_score_by_budget():
    rows = [row("pope", "original", 80.0), row("pope", "divprune", 60.0, keep=1 / 9), row("pope", "tome", 40.0, 1 / 18)]
    share = {"visual_tokens": 576.0, "core_ratio": None, "pooling": None}
    shares = [
        {"method": "divprune", "keep_ratio": 1 / 9, "value": 75.0, "interval": [73.0, 78.0]} | share,
        {"method": "tome", "keep_ratio": 1 / 18, "value": 50.0, "interval": [49.0, 51.0]} | share,
    ]
    text = markdown(results(rows, table="tokens") | {"shares_of_full": shares})
    table = section(text, "Per cent of the unpruned score")
    assert "| method | 64 tokens | 32 tokens |" in table
    assert "| divprune | 75.0 ± 2.5 | – |" in table and "| tome | – | 50.0 ± 1.0 |" in table
    assert "| divprune, keep 0.111111 | 144 → 14.0 | 60.0 ± 3.0 |" in section(text, "Scores")
    assert "paper's numbers" not in text


@pytest.mark.parametrize("table", [None, 1, 2, 4])
def test_the_papers_numbers_stand_in_a_table_of_their_own(table):
    text = markdown(results(sweep("pope") + sweep("gqa"), table=table))
    ours, paper = text.split("## The paper's numbers")
    assert "not measured here" in paper
    assert ("85.6" not in ours and "85.8" in paper) or table == 1
    assert "±" not in paper


def test_other_benchmarks_of_the_paper_are_left_out():
    paper = markdown(results(sweep("pope"))).split("## The paper's numbers")[1]
    assert "POPE" in paper and "ChartQA" not in paper
    assert "The paper's numbers" not in markdown(results(sweep("zspa_scenes_chart")))


def test_the_papers_numbers_are_as_printed():
    table = {(r.model, r.setting, r.column): r.value for r in paper_table(1)}
    assert table["llava-1.5-7b", "original", "ChartQA"] == 44.0
    assert table["qwen2.5-vl-7b", "zspa", "POPE"] == 69.0
    assert len(table) == 3 * 4 * 6
    assert {(r.column, r.setting): r.value for r in paper_table(2)}["MMMU", "0.4"] == 43.9
    assert {(r.column, r.setting): r.value for r in paper_table(4)}["POPE", "max"] == 67.3


def test_a_clear_difference_is_marked_and_an_unclear_one_is_not():
    clear = {"value": 3.0, "low": 1.0, "high": 5.0}
    rows = [row("pope", "original", 80.0), row("pope", "zspa", 83.0, core=0.2, pooling="mean", minus_original=clear),
            row("pope", "random", 79.0, minus_original={"value": -1.0, "low": -3.0, "high": 1.0})]  # fmt: skip
    text = section(markdown(results(rows)), "Paired differences")
    assert r"+3.0\* (+1.0 to +5.0)" in text and "-1.0 (-3.0 to +1.0)" in text


def test_failures_and_runs_that_pruned_nothing_are_said_before_anything_else():
    rows = [row("pope", "original", 80.0), row("pope", "zspa", 80.0, core=0.2, pooling="mean", kept_tokens=144.0),
            row("pope", "divprune", 60.0, failed=3)]  # fmt: skip
    before = markdown(results(rows)).split("## Scores")[0]
    assert "**Nothing was pruned**: zspa, core 0.2, keep 0.1 on pope" in before
    assert "**3 samples failed** and count as wrong: divprune, keep 0.1 on pope" in before


def test_a_failure_is_said_once_although_the_average_counts_it_too():
    rows = [row("zspa_scenes_chart", "random", 50.0, failed=1), row("zspa_scenes average", "random", 50.0, failed=1)]
    assert markdown(results(rows)).count("samples failed") == 1


def test_table_1_of_an_unconverted_checkpoint_has_the_unpruned_model_alone():
    unconverted = results([row("gqa", "original", 80.0)], table=1)
    del unconverted["zspa_core_ratio"]
    assert "| original | 144 | 80.0 ± 3.0 |" in section(markdown(unconverted), "Table 1")


def test_scenes_of_varied_size_are_told_from_those_of_one_size():
    rows = [row("zspa_scenes_chart", "random", 50.0), row("zspa_scenes_varied_chart", "random", 40.0)]
    assert "| chart | varied chart |" in markdown(results(rows))


def test_the_head_says_when_and_on_what_each_part_was_measured():
    rows = [row("pope", "original", 80.0), row("pope", "random", 40.0, setup=setup("2026-01-05")),
            row("pope", "divprune", 60.0, setup=setup("2026-01-03", hardware={"device": "GPU"}))]  # fmt: skip
    head = markdown(results(rows)).splitlines()[2]
    assert head.startswith("Measured 2026-01-02 to 2026-01-05 with torch 2.13.0 on device CPU and device GPU, float32.")
    assert "The first" not in head
    limited = results(rows[:1]) | {"settings": {"dtype": "bfloat16", "limit": 7}}
    head = markdown(limited).splitlines()[2]
    assert head.startswith("Measured 2026-01-02 with torch 2.13.0 on device CPU, bfloat16. The first 7 samples of each")


def inks(path):
    """Distinct colours of a picture that are no shade of grey."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    colours, counts = np.unique(pixels[np.ptp(pixels, 1) > 90], axis=0, return_counts=True)
    return {tuple(colour) for colour, count in zip(colours.tolist(), counts) if count > 150}


def test_core_ratio_is_drawn_with_a_line_per_task(tmp_path):
    assert plot_core_ratio(sweep("pope") + sweep("gqa"), tmp_path / "plot.png")
    assert len(inks(tmp_path / "plot.png")) == 2


def test_keep_ratio_is_drawn_with_a_line_per_method(tmp_path):
    rows = [row("pope", method, 50.0 + 100 * keep + 5 * i, keep=keep) for keep in (0.1, 0.25)
            for i, method in enumerate(("divprune", "relevance", "random"))]  # fmt: skip
    assert plot_keep_ratio(rows, tmp_path / "plot.png")
    assert len(inks(tmp_path / "plot.png")) == 3


def test_every_method_is_drawn_in_a_colour_and_with_a_marker_of_its_own():
    assert LOOKS.keys() == METHODS.keys() - {"original"}
    colours, markers, _ = zip(*LOOKS.values())
    assert len({*colours}) == len({*markers}) == len(LOOKS)


@pytest.mark.parametrize("pooling", ["max", "none"])
def test_a_checkpoint_with_another_pooling_has_its_plots_too(tmp_path, pooling):
    rows = [r | {"pooling": pooling} if r["pooling"] or r["method"] == "relevance" else r for r in sweep("pope")]
    assert plot_core_ratio(rows, tmp_path / "core.png")
    more = [r | {"keep_ratio": 0.25} for r in rows if r["method"] == "relevance"]
    assert plot_keep_ratio([*(r for r in rows if r["method"] == "relevance"), *more], tmp_path / "keep.png")


def test_of_a_methods_settings_the_one_with_most_points_is_drawn(tmp_path):
    weighted = [row("pope", "weighted", 50.0, keep=keep, relevance_weight=0.5) for keep in (0.05, 0.1, 0.25)]
    more = [row("pope", "weighted", 70.0, keep=keep, relevance_weight=weight) for keep, weight in ((0.1, 1), (0.25, 1))]
    assert plot_keep_ratio([*more, *weighted], tmp_path / "plot.png")
    assert plot_keep_ratio(weighted, tmp_path / "alone.png")
    assert (tmp_path / "plot.png").read_bytes() == (tmp_path / "alone.png").read_bytes()


def test_methods_with_one_point_each_make_no_keep_ratio_plot(tmp_path):
    rows = [row("pope", "divprune", 50.0, keep=0.1), row("pope", "random", 60.0, keep=0.25)]
    assert not plot_keep_ratio(rows, tmp_path / "plot.png")


def test_nothing_is_drawn_from_a_single_point(tmp_path):
    rows = [row("pope", "original", 80.0), row("pope", "divprune", 60.0)]
    assert not plot_core_ratio(rows, tmp_path / "plot.png") and not plot_keep_ratio(rows, tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=re.escape(install_command(extra="eval"))):
        plot_core_ratio(sweep("pope"), tmp_path / "plot.png")
