"""The metadata of a card stays as a person typed it; what is missing is added, and what cannot be read is named."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard
from test_model_card import CONFIG, NAME, OTHERS, ROW, card

from hf_zspa.checkpoints.card import base_metadata, metadata_of, read_card, write_card
from hf_zspa.checkpoints.card.metadata import with_entries
from hf_zspa.checkpoints.card.own_text import BEGIN, END
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
    "datasets: [a, b]   # of mine",
    "# last of all",
]
TAGS = ["custom_code", "visual-token-pruning", "zspaprune", "arxiv:2510.17197"]
MARKERS = "".join(card().partition(BEGIN)[1:])


def of(*lines, body="# Mine\n"):
    return "---\n" + "".join(f"{line}\n" for line in lines) + f"---\n{body}"


def entries(text):
    return yaml.safe_load(text.split("\n---\n")[0])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_that_a_person_typed_stays_byte_for_byte(newline):
    body = f"\n# Mine\n\n  text  \n{BEGIN}old{END} behind\n\n---\n\nmore"
    there = of(*LINES, body=body).replace("\n", newline)
    now = card(there)
    head, rest = there.split(f"{newline}---{newline}", 1)
    before, after = rest.split(f"{BEGIN}old{END}")
    assert now.startswith(f"{head}{newline}library_name: transformers{newline}")
    assert f"{newline}- {TAGS[-1]}{newline}---{newline}{before}{BEGIN}{newline}" in now and now.endswith(END + after)
    assert newline == "\n" or "\n" not in now.replace("\r\n", "")
    assert card(now) == now


def test_where_no_metadata_is_missing_its_bytes_stay():
    full = of("library_name:   x", "pipeline_tag: 'y'", f"tags:   {TAGS}  # all", "language: no", body=MARKERS)
    assert card(full).partition(BEGIN)[0] == full.partition(BEGIN)[0]


def test_what_is_written_is_read_by_others_too():
    now = card(of(*LINES))
    there, found = entries(of(*LINES)), entries(now)
    assert {name: found[name] for name in there} == there
    assert ModelCard(now).data.tags == found["tags"] == TAGS


@pytest.mark.parametrize(
    ("tags", "before"),
    [
        ("tags:\n- no\n- 'b'  # why", ["no", "b"]),
        ("tags:\n    - 1.10\n    - b\nafter: 1", ["1.10", "b"]),
        ("# above\ntags: [no, 'b']\n# below\n\nafter: 1", ["no", "b"]),
        ("tags: vision", ["vision"]),
        ("tags: []", []),
        ("# above\ntags:\n\nafter: 1", []),
    ],
    ids=["lines", "indented", "brackets", "word", "empty", "null"],
)
def test_tags_are_added_to_those_of_a_person_as_they_are_spelt(tags, before):
    now = card(of("x: no", tags, "# end"))
    assert entries(now)["tags"] == [*before, *TAGS]
    assert now.startswith("---\nx: no\n") and "# end\n" in now and now.endswith("---\n# Mine\n")
    assert all(comment in now for comment in ("# above\n", "# below\n\nafter: 1\n") if comment in tags)
    assert card(now) == now


def test_metadata_ends_at_a_line_of_three_dashes_alone():
    now = card(of("title: wow ---", "license: mit", body="text\n\n---\n\nmore\n"))
    assert metadata_of(now).license == "mit" and now.endswith("---\ntext\n\n---\n\nmore\n")


def test_a_card_without_metadata_gets_some_above_it():
    now = card("# Mine\n\n---\n\ntext\n")
    assert now.endswith("\n---\n\n# Mine\n\n---\n\ntext\n") and metadata_of(now).tags == TAGS
    assert card(now) == now


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert read_card(b"\xef\xbb\xbf" + of("license: mit").encode(), "README.md") == of("license: mit")


@pytest.mark.parametrize("empty", ["[]", ""])
def test_results_are_added_to_an_index_of_any_writing(empty):
    now = card(of(f"model-index: {empty}"), [ROW])
    assert entries(now)["model-index"][0]["results"][-1]["dataset"]["name"] == "POPE"
    theirs = json.loads(json.dumps(OTHERS)) | {"more": "kept"}
    data = yaml.safe_dump({"model-index": [theirs]}, default_flow_style=True)
    now = card(of(data.strip()[1:-1]), [ROW])
    first = entries(now)["model-index"][0]
    assert first["results"][0] == OTHERS["results"][0] and first["more"] == "kept" and len(first["results"]) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tags: {a: b}", "one word or a list of words as tags"),
        ("tags: 5", "cannot be read, mend it"),
        ("base_model: 5", "one word or a list of words as base_model"),
        ("base_model: {a: b}", "one word or a list of words as base_model"),
        ("model-index: foo", "cannot be read, mend it: Invalid `model_index`"),
        ("model-index: [{name: a, results: [5]}]", "Invalid `model_index`"),
        ("model-index: [{name: a, results: [{task: {type: x}, metrics: []}]}]", "KeyError.* 'dataset'"),
        ("- a", "cannot be read, mend it"),
        ("date: 2024-02-30", "cannot be read, mend it: day is out of range"),
        ("x: !foo bar", "cannot be read, mend it: could not determine a constructor"),
        ("x: *gone", "cannot be read, mend it: found undefined alias"),
        ("{license: mit}", "no place for library_name, pipeline_tag, tags: write it as one `name: value` below"),
        ("tags: &mine [a]\nx: *mine", "no place for library_name, pipeline_tag, tags"),
    ],
)
def test_metadata_that_is_none_is_one_clear_line(line, said):
    with pytest.raises(ValueError, match=f"the metadata of README.md .*{said}"):
        card(of(line))


def test_nothing_to_change_is_no_change():
    assert with_entries("{license: mit}", {}) == "{license: mit}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("café".encode("latin-1"), "README.md in org/x is not UTF-8: byte 3 is 0xe9; save"),
        (b"---\ntags: {}\n  -\n---\n", "the metadata of README.md in org/x cannot be read"),
        (BEGIN.encode(), "README.md in org/x has only one of the two"),
        (END.encode(), "README.md in org/x has only one of the two"),
        (f"{END}{BEGIN}".encode(), "README.md in org/x has only one of the two"),
    ],
)
def test_a_card_that_cannot_be_read_is_named_with_its_side(data, said):
    with pytest.raises(ValueError, match=said):
        read_card(data, "README.md in org/x")


def test_what_a_base_says_is_inherited_as_it_is_spelt(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlanguage: [no, en]\nlicense: other\nlicense_name: 1.10\nlicense_link:\n---\n"
    )
    known = base_metadata(tmp_path, None)
    assert known == {"license": "other", "license_name": "1.10", "language": ["no", "en"]}
    written = entries(card(metadata=known | {"base_model": "org/base"}))
    assert {name: written[name] for name in known} == known
    assert written["base_model"] == "org/base" and written["base_model_relation"] == "finetune"


@pytest.mark.parametrize("line", ["model-index: foo", "license: bsd"])
def test_what_is_not_inherited_from_a_base_need_not_be_in_order(tmp_path, line):
    (tmp_path / "README.md").write_text(f"---\n{line}\nlicense: mit\n---\n")
    assert base_metadata(tmp_path, None) == {"license": "mit"}


@pytest.mark.parametrize(("data", "said"), [(b"caf\xe9", "is not UTF-8"), (b"---\nx: [\n---\n", "is not YAML")])
def test_a_base_whose_card_cannot_be_read_is_named(tmp_path, data, said):
    (tmp_path / "README.md").write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path}/README.md {said}"):
        base_metadata(tmp_path, None)


def test_a_card_that_nobody_touched_is_titled_by_its_folder_and_then_by_its_repository(tmp_path):
    folder = convert_checkpoint(CHECKPOINT, tmp_path / "scenes")
    text = (folder / "README.md").read_text()
    assert "\n# scenes\n" in text and "hf-zspa verify scenes\n" in text
    assert text.count('from_pretrained("scenes", revision=revision') == 2 and str(tmp_path) not in text
    config = json.loads((folder / "config.json").read_text())
    pushed = write_card(config, "org/pruned", existing=text, tag="v1")
    assert "\n# pruned\n" in pushed and "scenes" not in pushed
    assert "\n# pruned\n" in write_card(config, "org/other", existing=text.replace("# scenes\n", "# pruned\n"))
    assert "\n# Mine\n" in write_card(config, "org/pruned", existing=text.replace("# scenes\n", "# Mine\n"))


def test_the_snippets_name_the_tag_or_else_the_branch():
    for arguments, line, verified in [
        ({"tag": "v1", "branch": "next"}, 'revision = "v1"\n', f"hf-zspa verify {NAME}@v1\n"),
        ({"branch": "next"}, 'revision = "next"  # better the commit that', f"hf-zspa verify {NAME}@next\n"),
        ({}, 'revision = "main"  # better the commit that hf-zspa verify prints\n', f"hf-zspa verify {NAME}\n"),
    ]:
        text = write_card(CONFIG, NAME, **arguments)
        assert line in text and verified in text
