"""Model cards: what a person wrote stays so, results are added to those of others, and what hf-zspa says is true."""

import re
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
import yaml

from hf_zspa.checkpoints.card import PICTURE, TUNED, chosen, metadata_of, tuned_line, write_card
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.hub.results import eval_results
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.version import install_command

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
PERSONS = "---\nlicense: mit\n---\n\n# My model\n\nAbout it.\n"


def card(existing=None, rows=None, config=CONFIG, **arguments):
    results = None if rows is None else eval_results({"rows": rows}, config)
    return write_card(config, NAME, existing=existing, results=results, **arguments)


def with_notes(notes="My notes, with a tpyo."):
    """A card as a push leaves it after a person wrote something below."""
    return card(f"{card()}\n{notes}\n")


def pushed_again(here, there):
    return card(chosen(here, there, NAME))


def test_writing_a_card_again_changes_nothing():
    text = with_notes()
    assert card(text) == text


@pytest.mark.parametrize("edited", ["here", "there"])
@pytest.mark.parametrize(
    ("old", "new"),
    [("tpyo", "typo"), ("# pruned", "# Pruned, by me"), ("My notes, with a tpyo.\n", ""), ("My notes", "  My notes"),
     ("---\n", "---\n# by Ann\n"), ("---\n", "---\nlicense: mit\n")],
    ids=["word", "title", "removal", "white space", "comment", "metadata"],
)  # fmt: skip
def test_an_edit_of_one_side_goes_on(edited, old, new):
    before = with_notes()
    after = before.replace(old, new, 1)
    now = pushed_again(after, before) if edited == "here" else pushed_again(before, after)
    assert now == card(after) and (new in now or not new) and (old == "---\n" or old not in now or old in new)


def test_cards_edited_on_both_sides_are_left_to_the_person():
    both = with_notes()
    for here, there in ((f"{both}\nMine.\n", f"{both}\nTheirs.\n"), (both.replace("tpyo", "typo"), f"{both}\nX\n")):
        with pytest.raises(ValueError, match=r"fetch that with hf download org/pruned README\.md --local-dir"):
            chosen(here, there, NAME)
        assert chosen(here, here, NAME) == here


def test_only_metadata_of_a_fresh_conversion_goes_into_the_card_of_a_person():
    here = card(metadata={"license": "mit", "base_model": "org/base", "language": "no"})
    there = PERSONS.replace("---\n", "---\nlibrary_name: vllm  # theirs\n", 1)
    now = pushed_again(here, there)
    assert now.startswith("---\nlibrary_name: vllm  # theirs\nlicense: mit\nbase_model: org/base\nlanguage: 'no'\n")
    assert now.endswith("---\n\n# My model\n\nAbout it.\n") and "custom_code" in metadata_of(now).tags


@pytest.mark.parametrize("name", ["license", "language", "x"])
def test_metadata_of_a_fresh_conversion_that_differs_is_left_to_the_person(name):
    there = card(PERSONS.replace("license: mit", f"{name}: de"))
    with pytest.raises(ValueError, match=rf"is the newer one, and their metadata differs \({name}\): fetch that"):
        chosen(card(metadata={name: "en"}), there, NAME)


def test_words_of_a_folder_published_elsewhere_are_not_lost_to_another_card():
    with pytest.raises(ValueError, match=r"nobody knows which of README\.md here and README\.md in org/pruned is the"):
        chosen(with_notes(), PERSONS, NAME)
    with pytest.raises(ValueError, match="nobody knows which"):
        chosen(PERSONS, PERSONS.replace("About", "All about"), NAME)


def results_of(text):
    return [result for entry in yaml.safe_load(text.split("---")[1])["model-index"] for result in entry["results"]]


def test_results_of_others_stay_and_old_ones_of_ours_go():
    old = card(rows=[ROW | {"value": 50.0}, ROW | {"task": "gqa", "metric": "exact_match"}])
    data = yaml.safe_load(old.split("---")[1])
    data["model-index"].append(OTHERS)
    existing = f"---\n{yaml.safe_dump(data)}---\n" + old.split("---\n", 2)[2]
    now = card(existing, [ROW])
    found = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in results_of(now)}
    assert found == {"POPE": 81.23, "Theirs": 12.5}
    assert "| Theirs | their accuracy | 12.5 |" in now
    assert results_of(card(now)) == results_of(now)


def test_several_results_and_several_metrics_of_one_data_set():
    rows = [ROW, ROW | {"metric": "pope_accuracy", "value": 70.0}, ROW | {"task": "gqa", "metric": "exact_match"}]
    now = card(rows=rows)
    assert [len(result["metrics"]) for result in results_of(now)] == [2, 1]
    assert now.count("| POPE | pope_") == 2 and "| GQA | exact_match" in now
    assert [result["dataset"]["name"] for result in results_of(card(now, [ROW]))] == ["POPE"]


def test_results_of_other_ratios_are_refused():
    with pytest.raises(
        ValueError,
        match=r"no row of method zspa, keep_ratio 0.1, core_ratio 0.2, pooling mean, centre False on any of .*pope",
    ):
        card(rows=[ROW | {"keep_ratio": 0.25}])


def test_results_name_the_ratios_that_they_were_measured_with():
    old = card(rows=[ROW])
    ratios = {
        "zspa_keep_ratio": 0.1, "zspa_method": "zspa", "zspa_core_ratio": 0.2, "zspa_pooling": "mean",
        "zspa_centre": False,
    }  # fmt: skip
    assert results_of(old)[0]["metrics"][0]["args"] == ratios
    row = f"| 81.23 | {', '.join(f'{name} {value}' for name, value in ratios.items())}"
    assert f"{row} |" in old
    for change in (
        {"zspa_keep_ratio": 0.5}, {"zspa_core_ratio": 0.4}, {"zspa_core_ratio": 0}, {"zspa_method": "weighted"},
        {"zspa_centre": True},
    ):  # fmt: skip
        now = card(old, config=CONFIG | change)
        assert f"{row}; **this checkpoint is set otherwise now** |" in now
        assert f"{row} |" in card(now)
    now = card(now, [ROW | {"keep_ratio": 0.5}], CONFIG | {"zspa_keep_ratio": 0.5})
    assert "| 81.23 | zspa_keep_ratio 0.5, " in now and "0.1, zspa_method" not in now and "otherwise" not in now
    diverse = ROW | {"method": "divprune", "core_ratio": None, "pooling": None}
    now = card(rows=[diverse], config=CONFIG | {"zspa_core_ratio": 0})
    row = "zspa_keep_ratio 0.1, zspa_method zspa, zspa_core_ratio 0.0, zspa_centre False"
    assert f"| 81.23 | {row} |" in now and f"{row}; **this checkpoint is set otherwise now** |" in card(now)


def test_results_of_another_method_are_those_of_its_own_settings():
    config = CONFIG | {"zspa_method": "weighted", "zspa_relevance_weight": 0.5, "zspa_centre": True}
    with pytest.raises(ValueError, match=r"no row of method weighted, keep_ratio 0\.1, relevance_weight 0\.5, pool"):
        card(rows=[ROW, ROW | {"method": "weighted", "relevance_weight": 0.75, "centre": True}], config=config)
    row = ROW | {"method": "weighted", "core_ratio": None, "relevance_weight": 0.5, "centre": True}
    now = card(rows=[row, row | {"centre": False, "value": 1.0}], config=config)
    measured = "zspa_method weighted, zspa_relevance_weight 0.5, zspa_pooling mean, zspa_centre True"
    assert f"| 81.23 | zspa_keep_ratio 0.1, {measured} |" in now


def test_results_of_a_card_that_does_not_name_what_could_not_be_set_then_still_hold():
    old = re.sub(r" +zspa_(method|centre): .*\n", "", card(rows=[ROW]))
    assert [*results_of(old)[0]["metrics"][0]["args"]] == ["zspa_keep_ratio", "zspa_core_ratio", "zspa_pooling"]
    assert "zspa_pooling mean |" in card(old)
    assert "zspa_pooling mean; **" in card(old, config=CONFIG | {"zspa_centre": True})


@pytest.mark.parametrize("args", [None, "odd", {"zspa_keep_ratio": 0.1}])
def test_results_of_ours_that_name_no_ratios_are_not_said_to_be_of_these(args):
    old = card(rows=[ROW])
    data = yaml.safe_load(old.split("---")[1])
    data["model-index"][0]["results"][0]["metrics"][0]["args"] = args
    now = card(f"---\n{yaml.safe_dump(data)}---\n" + old.split("---\n", 2)[2])
    assert "| 81.23 | ratios that were not noted |" in now


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("pope", "row 2 of the results is 'pope', not an object"),
        *(({k: v for k, v in ROW.items() if k != field}, f"row 2 of the results, {field} is missing")
          for field in ("task", "method", "metric", "n", "value")),
        (ROW | {"value": "81"}, "value is '81'"),
        (ROW | {"value": float("nan")}, "value is nan"),
        (ROW | {"value": True}, "value is True"),
        (ROW | {"n": 0.5}, "n is 0.5"),
        (ROW | {"metric": None}, "metric is None"),
        (ROW | {"task": ["pope"]}, r"task is \['pope'\]"),
    ],
)  # fmt: skip
def test_rows_that_no_eval_wrote_are_named(row, said):
    with pytest.raises(ValueError, match=f"{said}.*give what hf-zspa eval wrote"):
        card(rows=[ROW, row])


def test_a_checkpoint_that_keeps_everything_is_not_said_to_keep_one_token():
    text = card(config=CONFIG | {"zspa_keep_ratio": 1.0})
    assert "as it is set here it keeps all of them" in text and "of each image it keeps" not in text
    assert "of each image it keeps 14.5 % of the tokens" in card(config=CONFIG | {"zspa_keep_ratio": 0.145})


def test_a_fresh_conversion_shows_no_picture_and_one_that_is_drawn_is_shown(tmp_path):
    folder = convert_checkpoint(CHECKPOINT, tmp_path / "out")
    assert not list(folder.glob("*.png")) and "![" not in (folder / "README.md").read_text()
    shown = card(picture=True)
    assert f"]({PICTURE})\n\nTokens kept by this checkpoint: orange" in shown


def installed_with(monkeypatch, *urls, version=None, direct='{"url": "file:///checkout"}'):
    """As pip has it: `direct` says where a package is from that is from no index."""

    class Distribution:
        metadata = SimpleNamespace(get_all=lambda name: [*urls] if name == "Project-URL" else None)

        def read_text(self, name):
            return direct if name == "direct_url.json" else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution())
    if version:
        monkeypatch.setattr("hf_zspa.version.__version__", version)


def test_the_card_says_how_to_install_the_version_whose_code_it_has(monkeypatch):
    for known in ("https://example.org/here", "https://example.org/else/where"):
        installed_with(monkeypatch, "Homepage, https://example.org", f"Repository, {known}")
        text = card()
        assert f'$ pip install "hf-zspa @ git+{known}@v0.0.9"\n' in text and "They are those of hf_zspa 0.0.9" in text
        assert install_command("0.3.0.dev0") == f'pip install "hf-zspa @ git+{known}"'
        assert install_command("0.3.0", "eval") == f'pip install "hf-zspa[eval] @ git+{known}@v0.3.0"'


def test_what_is_from_an_index_is_installed_from_there(monkeypatch):
    address = "Repository, https://example.org/here"
    installed_with(monkeypatch, address, version="0.3.0", direct=None)
    assert install_command() == "pip install hf-zspa" and install_command(extra="app") == "pip install 'hf-zspa[app]'"
    assert install_command("0.2.0") == "pip install hf-zspa==0.2.0"
    assert install_command("0.2.0", "app") == "pip install 'hf-zspa[app]==0.2.0'"
    assert install_command("0.2.0.dev0") == 'pip install "hf-zspa @ git+https://example.org/here"'
    assert "$ pip install hf-zspa==0.0.9\n" in card()
    for others in ({"version": "0.3.0"}, {"version": "0.3.0.dev0", "direct": None}):  # a clone, and its development
        installed_with(monkeypatch, address, **others)
        assert "@ git+https://example.org/here" in install_command("0.2.0")
        installed_with(monkeypatch, **others)
        assert install_command(extra="app") == f"pip install '.[app]' # in a checkout of hf_zspa {others['version']}"


def test_without_a_known_address_the_install_line_is_for_a_checkout(monkeypatch):
    installed_with(monkeypatch)
    assert install_command("0.0.9") == "pip install . # in a checkout of hf_zspa 0.0.9"

    def gone(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", gone)
    assert install_command("0.0.9") == "pip install . # in a checkout of hf_zspa 0.0.9"


def test_how_a_checkpoint_was_tuned_stays_in_its_card_until_it_is_tuned_again():
    line = f"{TUNED} on 2026-11-29, with 200 rows of its owner's: at `zspa_keep_ratio` 0.15."
    once = card(with_notes(), tuned=line)
    assert once.count(line) == 1 and tuned_line(once) == line and "My notes" in once
    assert card(once) == once
    again = card(once, tuned=line.replace("29", "30"))
    assert tuned_line(again) == line.replace("29", "30") and line not in again
    assert tuned_line(card()) == "" and tuned_line(f"{card()}\n{line}\n") == ""  # a person's own words
