"""The metadata of a card stays as a person typed it; what is missing is added, and what cannot be read is named."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard
from test_model_card import CONFIG, NAME, OTHERS, ROW

from hf_zspa.checkpoints.card import base_metadata, card, metadata_of, read_card
from hf_zspa.checkpoints.card.front_matter import load, with_list
from hf_zspa.checkpoints.card.own_text import BEGIN
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.scenes import CHECKPOINT

LINES = [
    "# first of all",
    "language: no",
    "version: 1.10",
    "octal: 0777",
    "date: 2024-01-02",
    "license:",
    "anchor: &mine [1,   2]",
    "alias: *mine",
    "title: 'wow ---'  # quoted",
    'widget:\n- text: "' + "word " * 40 + '"',
    "text: |\n    one\n    ---\n    two\n",
    "more: >+\n  kept\n\n",
    "# above the author",
    "author:   Ann",
    "model_name: Ünï   # of mine",
    "# last of all",
]


MARKERS = "".join(card(CONFIG, NAME).partition(BEGIN)[1:])


def of(*lines, body="# Mine\n"):
    return "---\n" + "".join(f"{line}\n" for line in lines) + f"---\n{body}"


def refreshed(existing, **arguments):
    return card(CONFIG, NAME, existing=existing, **arguments)


def test_all_that_a_person_typed_stays():
    there = of(*LINES)
    now = refreshed(there)
    added = [line for line in now.splitlines() if line not in there.splitlines()]
    assert added == [
        "library_name: transformers", "pipeline_tag: image-text-to-text", "tags:", "- custom_code",
        "- visual-token-pruning", "- zspaprune", "- arxiv:2510.17197",
    ]  # fmt: skip
    assert [line for line in now.splitlines() if line not in added] == there.splitlines()
    assert refreshed(now) == now


def test_what_is_written_is_read_by_others_too():
    now = refreshed(of(*LINES))
    there, found = metadata_of(of(*LINES)), metadata_of(now)
    assert {name: found[name] for name in there} == there
    assert ModelCard(now).data.tags == found["tags"] and yaml.safe_load(now.split("\n---\n")[0]) == found


@pytest.mark.parametrize(
    ("tags", "before"),
    [
        ("tags:\n- no\n# about the next\n- 'b'  # why", "tags:\n- no\n# about the next\n- 'b'  # why\n"),
        ("tags:\n    - no\n    - 'b'\nafter: 1", "tags:\n    - no\n    - 'b'\n    - custom_code\n"),
        ("# above\ntags: [no, 'b']\nafter: 1", "# above\ntags:\n- no\n- 'b'\n"),
        ("tags: no", "tags:\n- no\n"),
        ("tags: []", "tags:\n- custom_code\n"),
        ("# above\ntags:\n\nafter: 1", "# above\ntags:\n- custom_code\n"),
    ],
    ids=["lines", "indented", "brackets", "word", "empty", "null"],
)
def test_tags_are_added_to_those_of_a_person(tags, before):
    now = refreshed(of("x: 1", tags, "# end"))
    assert before in now and "# end\n---\n# Mine" in now
    found, known = metadata_of(now), metadata_of(of(tags))
    known = {"tags": []} | known
    first = known["tags"] if isinstance(known["tags"], list) else [known["tags"]] if known["tags"] is not None else []
    assert found["tags"] == [*first, "custom_code", "visual-token-pruning", "zspaprune", "arxiv:2510.17197"]


def test_metadata_ends_at_a_line_of_three_dashes_alone():
    now = refreshed(of("title: wow ---", "license: mit", body="text\n\n---\n\nmore\n"))
    assert metadata_of(now)["license"] == "mit" and now.endswith("---\ntext\n\n---\n\nmore\n")


def test_a_byte_order_mark_is_no_part_of_the_text():
    data = b"\xef\xbb\xbf" + of("license: mit").encode().replace(b"\n", b"\r\n")
    now = refreshed(read_card(data, "README.md"))
    assert now == refreshed(of("license: mit")) == refreshed("\ufeff" + of("license: mit"))


def test_results_of_others_stay_as_typed():
    theirs = (
        "model-index:  # mine\n- name: pruned\n  results:\n  - task: {type: x}\n"
        "    dataset: {type: a/b, name: Theirs}\n    metrics:\n    - {type: accuracy, value: 1.10}  # by hand"
    )
    there = of("x: 1", theirs, "y: 2", body=MARKERS)
    first = refreshed(there, results={"rows": [ROW | {"value": 50.0}]})
    now = refreshed(first, results={"rows": [ROW]})
    assert theirs in now and "value: 81.23" in now and "value: 50.0" not in now
    assert "| Theirs | accuracy | 1.1 |" in now
    assert refreshed(now, results={"rows": [ROW]}) == now


@pytest.mark.parametrize("results", ["[]", "\n  - task: {type: x}\n    dataset: {type: a/b, name: N}\n    metrics: []"])
def test_results_are_added_to_an_index_of_any_writing(results):
    now = refreshed(of(f"model-index:\n- name: mine\n  results: {results}"), results={"rows": [ROW]})
    assert metadata_of(now)["model-index"][0]["results"][-1]["dataset"]["name"] == "POPE"
    data = yaml.safe_dump({"model-index": [OTHERS]}, default_flow_style=True)
    now = refreshed(of(data.strip()[1:-1]), results={"rows": [ROW]})
    assert metadata_of(now)["model-index"][0]["results"][0] == OTHERS["results"][0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tags: {a: b}", "one word or a list of words as tags"),
        ("base_model: 5", "one word or a list of words as base_model"),
        ("base_model: {a: b}", "one word or a list of words as base_model"),
        ("model-index: foo", "model-index without `results` lists"),
        ("model-index: [{name: a, results: [5]}]", "a result that is none"),
        (
            "model-index: [{name: a, results: [{task: {type: x}, metrics: []}]}]",
            r"KeyError: 'dataset'\): the Hub wants",
        ),
        ("license: mit\nlicense: bsd", "license twice"),
        ("{license: mit}", "must be `name: value` lines"),
        ("- a", "must be `name: value` lines"),
        ("date: 2024-02-30", "not YAML"),
        ("x: !foo bar", "not YAML"),
        ("x: *gone", "not YAML"),
        ("tags: &mine [a]\nx: *mine", "shares tags with another entry"),
        ("tags: &mine\n- a\nx: *mine", "shares tags with another entry"),
    ],
)
def test_metadata_that_is_none_is_one_clear_line(line, said):
    with pytest.raises(ValueError, match=said):
        refreshed(of(line))


def test_a_model_index_without_names_is_no_obstacle():
    index = yaml.safe_dump({"model-index": [{"results": OTHERS["results"]}]}).strip()
    assert "| Theirs |" in refreshed(of(index, body=MARKERS))


def test_tags_that_yaml_takes_for_numbers_are_tags():
    assert metadata_of(refreshed(of("tags: 5")))["tags"][:2] == [5, "custom_code"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("café".encode("latin-1"), "README.md in org/x is not UTF-8: byte 3 is 0xe9; save"),
        (b"---\ntags: {}\n  -\n---\n", "the metadata of README.md in org/x is not YAML"),
        (b"<!-- hf-zspa: end -->", "README.md in org/x has only one of the two"),
    ],
)
def test_a_card_that_cannot_be_read_is_named_with_its_side(data, said):
    with pytest.raises(ValueError, match=said):
        read_card(data, "README.md in org/x")


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
        card(CONFIG, NAME, results={"rows": [ROW, row]})


@pytest.mark.parametrize(
    ("tags", "comments"),
    [
        ("tags: [vision, 'a # b']  # see issue 3", "# see issue 3\n"),
        ("# above\ntags: vision   # why", "# above\n# why\n"),
        (
            "tags: [  # all\n    vision,  # by Ann\n    # next\n    'a # b',\n  ]\n  # last",
            "# all\n# by Ann\n# next\n# last\n",
        ),
        ("tags:  # none yet", "# none yet\n"),
        ("tags: >-  # folded\n  a # b", "# folded\n"),
    ],
    ids=["brackets", "word", "lines", "null", "block"],
)  # fmt: skip
def test_comments_within_an_entry_that_is_rewritten_stand_above_it(tags, comments):
    now = refreshed(of("x: 1", tags, "after: 2"))
    assert f"x: 1\n{comments}tags:\n-" in now and metadata_of(now)["tags"][0] in ("vision", "a # b", "custom_code")
    assert refreshed(now) == now


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        ([0], "tags:\n# nobody's\n\n  # b is because of Ann\n  # and Bob\n- b\n- c  # c\n# end\n"),
        ([1], "tags:\n# a\n- a  # too\n# nobody's\n\n- c  # c\n# end\n"),
        ([0, 2], "tags:\n# nobody's\n\n  # b is because of Ann\n  # and Bob\n- b\n# end\n"),
    ],
)
def test_an_item_goes_with_its_own_comments_only(drop, left):
    head = "tags:\n# a\n- a  # too\n# nobody's\n\n  # b is because of Ann\n  # and Bob\n- b\n- c  # c\n# end\n"
    assert with_list(head, ("tags",), drop=drop) == left
    assert with_list(head, ("tags",), ["d"], drop) == left.replace("# end\n", "- d\n# end\n")


def test_items_that_are_aliases_are_dropped_with_no_comment_lost():
    head = "x: &x\n- 1\n# y\ny: &y [2]\ntags:\n- *y\n# why\n- *x\n"
    now = with_list(head, ("tags",), drop=[0])
    assert load(now)["tags"] == [[1]] and "# y\n" in now and "# why\n" in now


def test_what_a_base_says_is_inherited_as_it_is_spelt(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlanguage: [no, en]\nlicense: other\nlicense_name: 1.10\nlicense_link:\n---\n"
    )
    known = base_metadata(tmp_path, None)
    assert known == {"license": "other", "license_name": "1.10", "language": ["no", "en"]}
    assert {name: metadata_of(card(CONFIG, NAME, metadata=known))[name] for name in known} == known


@pytest.mark.parametrize("line", ["model-index: foo", "license: bsd"])
def test_what_is_not_inherited_from_a_base_need_not_be_in_order(tmp_path, line):
    (tmp_path / "README.md").write_text(f"---\n{line}\nlicense: mit\n---\n")
    assert base_metadata(tmp_path, None) == {"license": "mit"}


def test_a_base_whose_card_is_not_utf8_is_named(tmp_path):
    (tmp_path / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=f"{tmp_path}/README.md is not UTF-8"):
        base_metadata(tmp_path, None)


def test_a_card_that_nobody_touched_is_titled_by_its_folder_and_then_by_its_repository(tmp_path):
    folder = convert_checkpoint(CHECKPOINT, tmp_path / "scenes")
    text = (folder / "README.md").read_text()
    assert "\n# scenes\n" in text and "hf-zspa verify scenes\n" in text
    assert text.count('from_pretrained("scenes", revision=revision') == 2 and str(tmp_path) not in text
    config = json.loads((folder / "config.json").read_text())
    pushed = card(config, "org/pruned", existing=text, revision="abc")
    assert "\n# pruned\n" in pushed and "scenes" not in pushed
    assert "\n# pruned\n" in card(config, "org/other", existing=pushed)
    assert "\n# Mine\n" in card(config, "org/pruned", existing=text.replace("# scenes\n", "# Mine\n"))


def test_a_checkpoint_that_keeps_everything_is_not_said_to_keep_one_token():
    text = card(CONFIG | {"zspa_keep_ratio": 1.0}, NAME)
    assert "as it is set here it keeps all of them" in text and "of each image it keeps" not in text
    assert "of each image it keeps 14.5 % of the tokens" in card(CONFIG | {"zspa_keep_ratio": 0.145}, NAME)
