"""Two cards as one: with the card that both were made of, changes and removals of both sides stay; nothing is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_model_card import CONFIG, NAME, OTHERS, ROW, pushed, results_of

from hf_zspa.checkpoints.card import card, merged, metadata_of
from hf_zspa.checkpoints.card.front_matter import dump, split
from hf_zspa.checkpoints.card.own_text import BEGIN, END
from hf_zspa.checkpoints.card.three_way import three_way

TEXT = "# pruned\n\nalpha\n\n```yaml\na:\n  b: 1\n```\n\nbeta\n"
WRITTEN = pushed(f"---\nlicense: mit  # theirs\ntags:\n- mine\n---\n\n{TEXT}\n{BEGIN}{END}\n", revision="abc")
PERSONS = "---\nlicense: mit\n---\n\n# My model\n\nAbout it.\n"


def unread():
    raise AssertionError("no older card is needed")
    yield


def both(here, there, older=(WRITTEN,)):
    assert WRITTEN not in (here, there)
    return merged(here, there, NAME, older)


def test_a_removal_here_and_an_addition_there_both_stay():
    now = both(WRITTEN.replace("alpha\n\n", "").replace("license: mit  # theirs\n", ""), f"{WRITTEN}\ngamma\n")
    assert "alpha" not in now and "license" not in metadata_of(now) and now.endswith("\ngamma\n")


def test_white_space_and_a_line_that_is_there_twice_are_changes():
    here = WRITTEN.replace("  b: 1", "    b: 1").replace("beta\n", "beta\n\nalpha\n")
    now = both(here, f"{WRITTEN}\ngamma\n")
    assert "a:\n    b: 1\n" in now and "\nbeta\n\nalpha\n" in now and now.endswith("\ngamma\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [("  b: 1", "    b: 1"), ("alpha\n", "alpha\n\n"), ("license: mit  # theirs", "# reviewed\nlicense: mit"),
     ("license: mit  # theirs", "license:   mit  # theirs")],
)  # fmt: skip
@pytest.mark.parametrize("side", ["here", "there"])
def test_an_edit_of_white_space_or_comments_alone_stays(old, new, side):
    edited = WRITTEN.replace(old, new, 1)
    now = merged(*((edited, WRITTEN) if side == "here" else (WRITTEN, edited)), NAME, unread())
    assert new in now and new in card(CONFIG, NAME, existing=now)


def test_what_both_changed_alike_is_no_conflict():
    here, there = (WRITTEN.replace("alpha", "ALPHA") + more for more in ("", "\ngamma\n"))
    now = both(here.replace("beta", "BETA"), there)
    assert "ALPHA" in now and "BETA" in now and "gamma" in now


def test_lines_that_both_changed_are_left_to_the_person():
    with pytest.raises(ValueError, match="was changed here and in org/pruned, and its text differs: fetch that with"):
        both(WRITTEN.replace("alpha", "A"), WRITTEN.replace("alpha", "B"))
    with pytest.raises(ValueError, match=r"its metadata \(license\) differs"):
        both(WRITTEN.replace("license: mit", "license: bsd"), WRITTEN.replace("license: mit  # theirs\n", ""))
    with pytest.raises(ValueError, match=r"its metadata \(license\) differs"):
        both(WRITTEN.replace("# theirs", "# mine"), WRITTEN.replace("# theirs", "# ours"))


def test_without_a_card_that_both_were_made_of_nothing_is_guessed():
    with pytest.raises(ValueError, match="was not made of that in org/pruned, and its text differs: fetch that with"):
        both(WRITTEN.replace("alpha\n\n", ""), f"{WRITTEN}\ngamma\n", older=[PERSONS])


def test_tags_of_both_sides_are_added_and_removed():
    here = WRITTEN.replace("- mine\n", "- here\n- 1.10\n")
    now = both(here, WRITTEN.replace("- mine\n", "- mine\n- there  # why\n"))
    tags = metadata_of(now)["tags"]
    assert "mine" not in tags and {"here", 1.1, "there"} < set(tags) and "- there  # why\n" in now


def test_a_comment_on_tags_that_both_changed_is_not_dropped():
    with pytest.raises(ValueError, match=r"its metadata \(tags\) differs"):
        both(WRITTEN.replace("- mine\n", "- mine\n- here  # why\n"), WRITTEN.replace("- mine\n", "- mine\n- there\n"))


def test_results_of_both_sides_are_added_and_removed():
    base = card(CONFIG, NAME, existing=WRITTEN, results={"rows": [ROW]})
    here = base.replace("value: 81.23", "value: 50.0")
    more = {"model-index": [*metadata_of(base)["model-index"], OTHERS]}
    head = {name: value for name, value in metadata_of(base).items() if name not in more}
    there = f"---\n{dump(head | more)}---\n" + base.split("---\n", 2)[2] + "\ngamma\n"
    values = {r["dataset"]["name"]: r["metrics"][0]["value"] for r in results_of(merged(here, there, NAME, [base]))}
    assert values == {"POPE": 50.0, "Theirs": 12.5}


def test_the_card_of_a_new_conversion_adds_to_that_of_a_person():
    here = card(CONFIG, "out", metadata={"license": "mit", "base_model": "org/base", "language": "en"})
    there = PERSONS.replace("---\n", "---\nlanguage: no\nlibrary_name: vllm\n", 1)
    now = merged(here, there, NAME)
    assert (
        now.endswith("---\n\n# My model\n\nAbout it.\n") and "language: no\nlibrary_name: vllm\nlicense: mit\n" in now
    )
    assert metadata_of(now)["base_model"] == "org/base" and "custom_code" in metadata_of(now)["tags"]


def test_another_licence_than_that_of_the_base_is_left_to_the_person():
    here = card(CONFIG, "out", metadata={"license": "apache-2.0"})
    with pytest.raises(ValueError, match=r"was not made of that in org/pruned, and its metadata \(license\) differs"):
        merged(here, PERSONS, NAME)


@pytest.mark.parametrize("edit", ["text", "metadata", "markers"])
def test_metadata_typed_here_is_not_lost_to_that_of_an_unrelated_card(edit):
    """Only where no word here is a person's does the card there say what is so."""
    there = PERSONS.replace("---\n", "---\nlanguage: no\n", 1)
    here = {
        "text": f"{card(CONFIG, 'out', metadata={'language': 'en'})}\n{split(there)[1]}",
        "metadata": card(CONFIG, "out").replace("---\n", "---\nlanguage: en\n", 1),
        "markers": there.replace("language: no", "language: en"),
    }[edit]
    with pytest.raises(ValueError, match=r"its metadata \(language\) differs"):
        merged(here, there, NAME)
    assert metadata_of(merged(card(CONFIG, "out", metadata={"language": "en"}), there, NAME))["language"] is False


@pytest.mark.parametrize("there", [PERSONS, WRITTEN])
def test_a_card_without_markers_is_not_said_to_be_made_of_another(there):
    here = there.replace(BEGIN, "").replace(END, "").replace("# ", "# A ")
    here = re.sub("<!-- hf-zspa.*\n", "", here)
    with pytest.raises(ValueError, match="nobody knows whether it or that in org/pruned is the edited one, and its"):
        merged(here, there, NAME, [there])


def test_notes_of_a_folder_published_elsewhere_are_not_lost_to_another_card():
    with pytest.raises(ValueError, match="was not made of that in org/pruned, and its text differs"):
        merged(WRITTEN.replace("  # theirs", ""), PERSONS, NAME)


def test_what_was_edited_here_meets_a_card_that_has_no_words():
    here = card(CONFIG, NAME) + "\nMine.\n"
    there = pushed("---\nx: 1\n---\n\n# Pruned\n\n" + BEGIN + END + "\n", revision="def")
    assert merged(here, there, NAME).endswith("\nMine.\n")


def test_a_card_with_all_of_one_that_nobody_edited_takes_its_place():
    here = pushed(f"{WRITTEN}\nMine.\n", revision="abc")  # as a pull request that is not merged yet has it
    assert merged(here, WRITTEN, NAME).endswith("\nMine.\n")
    with pytest.raises(ValueError, match="was not made of that"):
        merged(here, WRITTEN.replace("alpha", "Alpha"), NAME)


def test_a_conflict_ends_when_the_persons_own_card_is_in_both_places():
    here = WRITTEN.replace("alpha", "A and B")
    with pytest.raises(ValueError, match=r"send it with hf upload org/pruned README\.md, and push again"):
        both(here, WRITTEN.replace("alpha", "B"))
    assert both(here, here) == here


LINES = st.lists(st.sampled_from("abcdefgh\n"), max_size=9).map(lambda lines: "".join(f"{line}\n" for line in lines))


@given(LINES, LINES, LINES)
def test_no_side_of_a_merge_is_preferred_and_none_is_lost(base, here, there):
    assert three_way(base, here, base) == here and three_way(base, base, there) == there
    assert three_way(base, here, here) == here
    found = three_way(base, here, there)
    assert found == three_way(base, there, here)
    if found is not None:
        old, new = set(base.splitlines()), set(found.splitlines())
        assert (set(here.splitlines()) | set(there.splitlines())) - old <= new
        assert new <= set(here.splitlines()) | set(there.splitlines())


def test_lines_that_touch_are_a_conflict_and_others_are_not():
    assert three_way("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n") == "A\nb\nC\n"
    assert three_way("a\nb\n", "A\nb\n", "a\nB\n") is None
    assert three_way("a\n", "a\nb\n", "a\nc\n") is None
