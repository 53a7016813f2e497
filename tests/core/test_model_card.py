"""Model cards: what a person wrote, changed or removed stays so, and results are added to those of others."""

import pytest
import yaml

from hf_zspa.checkpoints.card import card, merged, metadata_of

CONFIG = {
    "model_type": "llava", "zspa_keep_ratio": 0.1, "zspa_core_ratio": 0.2, "zspa_pooling": "mean",
    "zspa_version": "0.0.9",
}  # fmt: skip
NAME = "org/pruned"
ROW = {
    "task": "pope", "method": "zspa", "keep_ratio": 0.1, "core_ratio": 0.2, "pooling": "mean", "n": 500,
    "metric": "pope_f1_score", "value": 81.234,
}  # fmt: skip
OTHERS = {
    "name": "pruned",
    "results": [
        {
            "task": {"type": "image-text-to-text"},
            "dataset": {"type": "someone/their-data", "name": "Theirs"},
            "metrics": [{"type": "accuracy", "value": 12.5, "name": "their accuracy"}],
        }
    ],
}


def pushed(existing=None, **arguments):
    """A card as a push leaves it, here and on the Hub."""
    first = card(CONFIG, NAME, existing=existing, **arguments)
    return card(CONFIG, NAME, existing=first)


def pushed_again(here, there, **arguments):
    return card(CONFIG, NAME, existing=merged(here, there, NAME), **arguments)


def with_notes(text, notes="My notes, with a tpyo."):
    return pushed(f"{text}\n{notes}\n")


def test_writing_a_card_again_changes_nothing():
    text = with_notes(card(CONFIG, NAME))
    assert card(CONFIG, NAME, existing=text) == text


def test_a_line_changed_in_the_folder_takes_the_place_of_the_old_one():
    there = with_notes(card(CONFIG, NAME))
    here = there.replace("tpyo", "typo").replace("# pruned", "# Pruned, by me")
    now = pushed_again(here, there)
    assert "typo" in now and "tpyo" not in now and "# Pruned, by me" in now


@pytest.mark.parametrize("side", ["here", "there"])
def test_what_is_removed_on_one_side_stays_removed(side):
    both = with_notes(card(CONFIG, NAME, metadata={"license": "mit", "base_model": "org/base"}))
    removed = both.replace("My notes, with a tpyo.\n", "").replace("license: mit\n", "")
    now = pushed_again(removed, both) if side == "here" else pushed_again(both, removed)
    assert "My notes" not in now and "license" not in metadata_of(now)
    assert metadata_of(now)["base_model"] == "org/base"


def test_notes_on_the_hub_survive_a_checkpoint_made_anew():
    there = with_notes(card(CONFIG, NAME))
    now = pushed_again(card(CONFIG, NAME), there)
    assert "My notes" in now


def test_cards_changed_on_both_sides_are_left_to_the_person():
    both = with_notes(card(CONFIG, NAME))
    with pytest.raises(ValueError, match="its text differs: fetch that with hf download org/pruned"):
        merged(f"{both}\nMine.\n", f"{both}\nTheirs.\n", NAME)
    with pytest.raises(ValueError, match=r"its metadata \(license\) differs"):
        merged(both.replace("---\n", "---\nlicense: mit\n", 1), both.replace("---\n", "---\nlicense: bsd\n", 1), NAME)


def results_of(text):
    return [result for entry in metadata_of(text)["model-index"] for result in entry["results"]]


def test_results_of_others_stay_and_old_ones_of_ours_go():
    old = card(CONFIG, NAME, results={"rows": [ROW | {"value": 50.0}, ROW | {"task": "gqa", "metric": "exact_match"}]})
    data = metadata_of(old)
    data["model-index"].append(OTHERS)
    existing = f"---\n{yaml.safe_dump(data)}---\n" + old.split("---\n", 2)[2]
    now = card(CONFIG, NAME, existing=existing, results={"rows": [ROW]})
    found = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in results_of(now)}
    assert found == {"POPE": 81.23, "Theirs": 12.5}
    assert "| Theirs | their accuracy | 12.5 |" in now


def test_results_added_on_the_hub_are_not_lost_to_those_added_here():
    first = pushed()
    here = card(CONFIG, NAME, existing=first, results={"rows": [ROW]})
    data = metadata_of(first) | {"model-index": [OTHERS]}
    there = f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n" + first.split("---\n", 2)[2]
    found = {result["dataset"]["name"] for result in results_of(merged(here, there, NAME))}
    assert found == {"POPE", "Theirs"}
    assert results_of(pushed_again(first, there)) == OTHERS["results"]


def test_results_of_other_ratios_are_refused():
    with pytest.raises(
        ValueError, match=r"no row of method zspa, keep_ratio 0.1, core_ratio 0.2, pooling mean on any of .*pope"
    ):
        card(CONFIG, NAME, results={"rows": [ROW | {"keep_ratio": 0.25}]})


def test_results_name_the_ratios_that_they_were_measured_with():
    old = card(CONFIG, NAME, results={"rows": [ROW]})
    ratios = {"zspa_keep_ratio": 0.1, "zspa_core_ratio": 0.2, "zspa_pooling": "mean"}
    assert results_of(old)[0]["metrics"][0]["args"] == ratios
    row = "| 81.23 | zspa_keep_ratio 0.1, zspa_core_ratio 0.2, zspa_pooling mean"
    assert f"{row} |" in old
    for change in ({"zspa_keep_ratio": 0.5}, {"zspa_core_ratio": 0.4}, {"zspa_core_ratio": 0}):
        now = card(CONFIG | change, NAME, existing=old)
        assert f"{row}; **this checkpoint is set otherwise now** |" in now
        assert f"{row} |" in card(CONFIG, NAME, existing=now)
    now = card(CONFIG | {"zspa_keep_ratio": 0.5}, NAME, existing=now, results={"rows": [ROW | {"keep_ratio": 0.5}]})
    assert "| 81.23 | zspa_keep_ratio 0.5, " in now and "0.1, zspa_core" not in now and "otherwise" not in now
    diverse = ROW | {"method": "divprune", "core_ratio": None, "pooling": None}
    now = card(CONFIG | {"zspa_core_ratio": 0}, NAME, results={"rows": [diverse]})
    assert "| 81.23 | zspa_keep_ratio 0.1, zspa_core_ratio 0 |" in now
    assert "zspa_core_ratio 0; **this checkpoint is set otherwise now** |" in card(CONFIG, NAME, existing=now)


@pytest.mark.parametrize("args", [None, "odd", {"zspa_keep_ratio": 0.1}])
def test_results_of_ours_that_name_no_ratios_are_not_said_to_be_of_these(args):
    data = metadata_of(old := card(CONFIG, NAME, results={"rows": [ROW]}))
    data["model-index"][0]["results"][0]["metrics"][0]["args"] = args
    now = card(CONFIG, NAME, existing=f"---\n{yaml.safe_dump(data)}---\n" + old.split("---\n", 2)[2])
    assert "| 81.23 | ratios that were not noted |" in now


def test_a_model_index_that_is_none_is_named():
    broken = card(CONFIG, NAME).replace("---\n", "---\nmodel-index: [1]\n", 1)
    with pytest.raises(ValueError, match="model-index without `results` lists"):
        card(CONFIG, NAME, existing=broken, results={"rows": [ROW]})


def test_the_card_names_the_version_whose_code_it_has():
    text = card(CONFIG, NAME)
    assert "They are those of hf_zspa 0.0.9" in text and "pip install hf-zspa==0.0.9" in text
