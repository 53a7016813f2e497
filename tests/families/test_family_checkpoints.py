"""The life of a checkpoint of every family: converted, looked at, verified, loaded, drawn, saved and loaded again."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mistral_common
import pytest
import tiny
import torch
import transformers
from drawn import assert_drawn_where_it_lies
from packaging.version import Version
from PIL import Image

from hf_zspa.app import answering
from hf_zspa.app.markup import panels
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.checkpoints.inspect import inspect_checkpoint
from hf_zspa.checkpoints.verify import verify_checkpoint
from hf_zspa.hub.publishable import check_publishable
from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.version import TESTED_TRANSFORMERS
from hf_zspa.visualize.checkpoint import visualize_checkpoint

WITH_EXAMPLES = ("paligemma", "smolvlm", "gemma3")  # no chat template, one package more, and neither
every_family = pytest.mark.parametrize("family", tiny.OTHER_FAMILIES)


@pytest.fixture(scope="module")
def converted(base_checkpoint, tmp_path_factory):
    """A function from a family to the folder of a converted checkpoint."""
    made = {}

    def convert(family):
        if family not in made:
            made[family] = convert_checkpoint(base_checkpoint(family), tmp_path_factory.mktemp(family) / "zspa")
        return made[family]

    return convert


@every_family
def test_it_is_converted_inspected_and_verified(family, converted, base_checkpoint):
    folder = converted(family)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [f"Zspa{tiny.STOCK[family]}", tiny.STOCK[family]]
    assert bool(config["zspa_query_start_ids"]) == bool(tiny.TEMPLATES[family]), "a template's user turn is found"
    assert verify_checkpoint(folder).passed
    for checkpoint in (base_checkpoint(family), folder):
        assert inspect_checkpoint(checkpoint).model_type == family


@pytest.mark.every_version
def test_a_vocabulary_in_mistrals_own_format_beside_it_changes_nothing(base_checkpoint, tmp_path):
    """As published, with mistral-common installed, with which transformers reads that file first."""
    base = Path(shutil.copytree(base_checkpoint("mistral3"), tmp_path / "base"))
    fields = convert_checkpoint(base, tmp_path / "before") / "config.json"
    shutil.copy(min(Path(mistral_common.__file__).parent.glob("data/tekken*.json")), base / "tekken.json")
    folder = convert_checkpoint(base, tmp_path / "zspa")
    assert (folder / "config.json").read_bytes() == fields.read_bytes()
    assert verify_checkpoint(folder).passed and inspect_checkpoint(folder).model_type == "mistral3"
    (base / "tokenizer.json").unlink()
    with pytest.raises(
        ValueError, match=r"^the tokenizer of .* cannot be loaded|has only a slow tokenizer: save it with"
    ):
        convert_checkpoint(base, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@every_family
def test_it_loads_as_the_stock_class_without_trust_and_prunes_with_it(family, converted, tmp_path):
    folder = converted(family)
    stock, info = transformers.AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert type(stock).__name__ == tiny.STOCK[family] and not any(info["missing_keys"])
    model, processor = load_zspa(folder)
    image = tiny.random_image(112, 84)
    inputs = question_inputs(model, processor, image, "what colour is the star?")
    (kept,) = model.select_visual_tokens(**inputs)
    (whole,) = model.select_visual_tokens(**inputs, zspa_keep_ratio=1.0)
    assert len(kept) == max(1, int(len(whole) * 0.1 + 0.5))
    answer = model.generate(**inputs, do_sample=False, max_new_tokens=4)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    again = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    assert type(again).__name__ == f"Zspa{tiny.STOCK[family]}"
    assert torch.equal(again.generate(**inputs, do_sample=False, max_new_tokens=4), answer)


@every_family
def test_the_hubs_names_load_to_the_weights_that_transformers_own_names_do(family, base_checkpoint):
    hub, own = (
        transformers.AutoModelForImageTextToText.from_pretrained(base_checkpoint(family, layout=layout)).state_dict()
        for layout in ("old", "new")
    )
    assert hub.keys() == own.keys() and all(torch.equal(hub[name], own[name]) for name in own)


@every_family
def test_it_can_be_pushed(family, converted):
    """All that `push` asks of a folder before it asks the Hub; tests/hub does the rest."""
    config = check_publishable(converted(family))
    assert config["model_type"] == family


@every_family
@pytest.mark.parametrize("size", [(150, 90), (90, 200), (36, 280)])
def test_a_token_depends_on_the_pixels_where_it_is_drawn(load, family, size):
    if family == "cohere2_vision" and tiny.transformers_version() < (5, 0):
        pytest.skip("transformers 4.57 takes the height for the width when it cuts an image into tiles")
    assert_drawn_where_it_lies(load(family), size)


@every_family
def test_it_is_drawn(family, converted, tmp_path):
    tiny.random_image(90, 60).save(tmp_path / "scene.png")
    visualize_checkpoint(converted(family), tmp_path / "scene.png", "what is this?", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").width > 100


@every_family
def test_compact_is_allowed_where_positions_are_one_row(family, load):
    pair = load(family)
    assert ("compact" in pair.model.config_class.allowed_position_ids) == (
        not hasattr(pair.model.model, "get_rope_index")
    )


@every_family
def test_the_page_asks_it_and_draws_what_is_kept(family, converted, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "NEW_TOKENS", 4)
    tiny.random_image(150, 90).save(tmp_path / "a.png")
    asked = (str(tmp_path / "a.png"), "what colour is the star?")
    page = answering.Answering(str(converted(family)))
    question = page.question(*asked)
    kept = page.select(question, keep_ratio=0.3, method="weighted").kept
    (expected,) = page.model.select_visual_tokens(
        **question_inputs(page.model, page.processor, Image.open(asked[0]), asked[1]),
        zspa_keep_ratio=0.3,
        zspa_method="weighted",
    )
    assert torch.equal(kept, expected)
    assert panels(question.views, page.select(question)).count("<img") == 2 * len(question.views)
    *_, whole = page.answer(*asked, len(kept), keep_ratio=0.3, method="weighted")
    assert 0 < whole.first_token <= whole.total


@every_family
def test_its_card_names_the_versions_that_it_runs_on_and_an_example_that_runs(family, converted, tmp_path, monkeypatch):
    card = (converted(family) / "README.md").read_text()
    named = {Version(version).release for version in re.search(r"Tested with transformers (.*)\.", card)[1].split(", ")}
    recipe = tiny.RECIPES[family]
    tested = {Version(version).release for version in TESTED_TRANSFORMERS}
    assert named == {v for v in tested if v >= recipe.since and v[:2] not in recipe.stock_fails}
    if family not in WITH_EXAMPLES:
        return
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (name,) = {*re.findall(r'from_pretrained\("(.*?)"', example)}
    tiny.random_image(112, 84).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    exec(example.replace(name, str(converted(family))).replace("max_new_tokens=64", "max_new_tokens=2"), {})


def test_a_family_that_this_transformers_does_not_have_is_named(converted, monkeypatch):
    folder = converted("gemma3")
    monkeypatch.setitem(FAMILIES, "gemma3", replace(FAMILIES["gemma3"], stock="LaterForConditionalGeneration"))
    with pytest.raises(ValueError, match="has no LaterForConditionalGeneration: install a later version"):
        load_zspa(folder)
