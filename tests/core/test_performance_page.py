"""What the pages say pruning saves is what the files beside them measured."""

import json
from pathlib import Path

import chart
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "docs/performance/llava-1.5-7b-small/results.json").read_text(encoding="utf-8"))
ALL, PRUNED = ({row["method"]: row for row in RESULTS["rows"]}[method] for method in ("original", "zspa"))
SAMPLES = ALL["samples"][0], PRUNED["samples"][0]
FIRST, WHOLE = (
    [f"{row[time]['median'] / 1000:.2f} s" for row in (ALL, PRUNED)] for time in ("first_token", "end_to_end")
)
CACHE = [f"{sample['cache_bytes'] / 1e6:.1f} MB" for sample in SAMPLES]


def ratio(time: str) -> str:
    measured = PRUNED["to"]["original"][time]
    low, high = (f"{end:.3f}" for end in measured["interval"])
    return f"{measured['median']:.3f} ({low} to {high})"


def words_of(page: str) -> str:
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_saving_on_the_first_pages_is_the_measured_one(page):
    text = words_of(page)
    assert f"With {SAMPLES[1]['kept']} of {SAMPLES[0]['visual_tokens']} visual tokens" in text
    assert f"comes after {FIRST[1]} instead of {FIRST[0]}" in text
    assert f"takes {WHOLE[1]} instead of {WHOLE[0]}" in text
    assert f"torch {RESULTS['torch']}, transformers {RESULTS['transformers']}, {RESULTS['created']}" in text


def test_the_table_on_the_performance_page_is_the_measured_one():
    text = words_of("docs/performance.md")
    assert f"| visual tokens | {SAMPLES[0]['visual_tokens']} | {SAMPLES[1]['kept']} | |" in text
    assert f"| time to the first token | {FIRST[0]} | {FIRST[1]} | {ratio('first_token')} |" in text
    assert f"| whole answer | {WHOLE[0]} | {WHOLE[1]} | {ratio('end_to_end')} |" in text
    assert f"| choosing the tokens | – | {PRUNED['selection']['median']:.1f} ms | |" in text
    assert f"| keys and values in the cache | {CACHE[0]} | {CACHE[1]} | |" in text


def test_the_readme_gives_the_cache_as_measured():
    assert f"the cache {CACHE[1]} instead of {CACHE[0]}" in words_of("README.md")


def test_the_parts_of_the_chart_add_up_to_the_whole_answer():
    assert sum(chart.parts(PRUNED)) == pytest.approx(PRUNED["end_to_end"]["median"] / 1000)
    assert all(part >= 0 for part in chart.parts(ALL) + chart.parts(PRUNED))
