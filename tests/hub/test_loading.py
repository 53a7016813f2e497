"""From the Hub with the ordinary Auto classes: pruned with trust, stock without, and again after fine-tuning."""

import pytest
import tiny
from PIL import Image

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.scenes import EXAMPLES

PROMPT = """
import torch, transformers
from PIL import Image
from transformers import AutoProcessor

def inputs_of(name, **options):
    processor = AutoProcessor.from_pretrained(name, **options)
    content = [{{"type": "image"}}, {{"type": "text", "text": "what colour is the star?"}}]
    text = processor.apply_chat_template([{{"role": "user", "content": content}}], add_generation_prompt=True)
    return processor(images=Image.new("RGB", (112, 84), "red"), text=text, return_tensors="pt")

name, revision = {repository!r}, {revision!r}
"""


@pytest.fixture
def published(hub, client, checkpoint, repository):
    done = client.run("push", checkpoint, repository, "--tag", "v1")
    assert done.status == 0, done.err
    return PROMPT.format(repository=repository, revision="v1")


AUTO_CLASSES = [
    "AutoModelForImageTextToText",
    *["AutoModelForVision2Seq"] * (tiny.transformers_version() < (5,)),
]


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_a_tag_loads_and_prunes_with_the_ordinary_class(client, published, auto_class):
    found = client.python(published + f"""
model, found = transformers.{auto_class}.from_pretrained(
    name, revision=revision, trust_remote_code=True, output_loading_info=True)
assert not found["missing_keys"] and not found["unexpected_keys"], found
inputs = inputs_of(name, revision=revision)
kept = model.select_visual_tokens(**inputs)
out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
result = [type(model).__name__, len(kept[0]), out.shape[1] - inputs["input_ids"].shape[1]]
""", token=None)  # fmt: skip
    assert found == ["ZspaLlavaForConditionalGeneration", 6, 3]


def test_the_snippet_of_the_card_runs_as_it_stands(hub, client, published, repository, tmp_path):
    card = hub.files(repository)["README.md"].decode()
    snippet = card.split("```python\n", 1)[1].split("```", 1)[0]
    Image.new("RGB", (112, 84), "red").save(tmp_path / "picture.jpg")
    printed = client.python(f"""
import contextlib, io, os
os.chdir({str(tmp_path)!r})
said, names = io.StringIO(), {{}}
with contextlib.redirect_stdout(said):
    exec({snippet!r}, names)
result = [names["revision"], names["out"].shape[1] > names["inputs"]["input_ids"].shape[1], bool(said.getvalue())]
""")
    assert printed == ["v1", True, True]


def test_a_revision_is_code_too(hub, client, published, repository, checkpoint):
    """Later code on the main branch is not what a pinned revision runs."""
    path = checkpoint / "modeling_zspa_llava.py"
    code = path.read_text() + "\n\nraise RuntimeError('later code')\n"
    client.upload(repository, path.name, code.encode())
    loads = "transformers.AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=True{})"
    assert client.python(published + f"result = type({loads.format(', revision=revision')}).__name__").startswith(
        "Zspa"
    )
    said = client.python(
        published + f"try:\n    {loads.format('')}\nexcept RuntimeError as error:\n    result = str(error)"
    )
    assert said == "later code"


def test_without_trust_it_is_the_stock_model(client, published):
    found = client.python(published + """
model = transformers.AutoModelForImageTextToText.from_pretrained(name, revision=revision, trust_remote_code=False)
result = type(model).__name__
""")  # fmt: skip
    assert found == "LlavaForConditionalGeneration"


def test_the_pipeline_takes_the_hubs_name(client, published):
    answer = client.python(published + """
pipe = transformers.pipeline("image-text-to-text", model=name, revision=revision, trust_remote_code=True)
lengths = []
pipe.model.model.language_model.register_forward_pre_hook(
    lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True)
content = [{"type": "image", "image": Image.new("RGB", (112, 84), "red")}, {"type": "text", "text": "what is it?"}]
pipe(text=[{"role": "user", "content": content}], max_new_tokens=2, return_full_text=False)
result = lengths[0]
""")  # fmt: skip
    assert answer < 64  # the image alone has 64 tokens


def test_a_fine_tuned_model_is_pushed_and_still_prunes(hub, client, published, repository):
    tuned = f"{repository}-tuned"
    client.python(published + f"""
model = transformers.AutoModelForImageTextToText.from_pretrained(name, revision=revision, trust_remote_code=True)
inputs = inputs_of(name, revision=revision)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
model(**inputs, labels=inputs["input_ids"]).loss.backward()
optimizer.step()
model.push_to_hub({tuned!r})
AutoProcessor.from_pretrained(name, revision=revision).push_to_hub({tuned!r})
""")  # fmt: skip
    files = hub.files(tuned)
    assert {name for name in files if name.endswith(".py")} == {n for n in hub.files(repository) if n.endswith(".py")}
    done = client.run("verify", tuned)
    assert done.status == 0, done.out
    found = client.python(PROMPT.format(repository=tuned, revision="main") + """
model, found = transformers.AutoModelForImageTextToText.from_pretrained(
    name, trust_remote_code=True, output_loading_info=True)
assert not found["missing_keys"] and not found["unexpected_keys"], found
import json
from huggingface_hub import hf_hub_download
config = json.load(open(hf_hub_download(name, "config.json")))
result = [len(model.select_visual_tokens(**inputs_of(name))[0]), config["architectures"]]
""")  # fmt: skip
    assert found == [6, ["ZspaLlavaForConditionalGeneration", "LlavaForConditionalGeneration"]]


def test_a_base_on_the_hub_is_loaded_as_it_is_and_pushed_as_a_checkpoint_that_prunes(
    hub, client, base_checkpoint, repository, tmp_path
):
    hub.add("org/stock", {path.name: path.read_bytes() for path in base_checkpoint("llava").iterdir()})
    pushed, cache = f"{repository}-in-memory", tmp_path / "cache"
    kept = client.python(PROMPT.format(repository="org/stock", revision="main") + f"""
import hf_zspa, os
model = hf_zspa.from_pretrained(name, revision=revision, cache_dir={str(cache)!r}, token=False, zspa_keep_ratio=0.2)
assert {{"models--org--stock"}} <= {{*os.listdir({str(cache)!r})}}
inputs = inputs_of(name)
model.push_to_hub({pushed!r})
AutoProcessor.from_pretrained(name).push_to_hub({pushed!r})
assert model.name_or_path == model.config.name_or_path == "org/stock"
result = [len(model.select_visual_tokens(**inputs)[0]), model.generate(**inputs, max_new_tokens=3).tolist()]
""")  # fmt: skip
    done = client.run("verify", pushed)
    assert done.status == 0, done.out
    assert hub.files("org/stock").keys() == {path.name for path in base_checkpoint("llava").iterdir()}
    found = client.python(PROMPT.format(repository=pushed, revision="main") + """
model = transformers.AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=True).eval()
inputs = inputs_of(name)
result = [len(model.select_visual_tokens(**inputs)[0]), model.generate(**inputs, max_new_tokens=3).tolist()]
""")  # fmt: skip
    assert found == kept and kept[0] == 13
    said = client.python("""
import hf_zspa
try:
    hf_zspa.from_pretrained("org/nowhere")
except ValueError as error:
    result = str(error)
""")
    assert "there is no folder org/nowhere, and the Hub has no such repository" in said


UNREAD = ("consolidated.safetensors", "adapter_model.safetensors", "model-00001-of-00003.safetensors", "model.bin")


def repository_of(folder):
    """The files of a base, and weights beside them that transformers does not load."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} | dict.fromkeys(UNREAD, b"not to be read")


def downloaded(hub, repository):
    """Names of the weights that were fetched, sorted."""
    found = (path.rpartition("/")[2] for _, path, _ in hub.sent("GET", f"/{repository}/resolve/"))
    return sorted({name for name in found if name.endswith((".safetensors", ".bin"))})


@pytest.fixture
def sharded(base_checkpoint):
    return base_checkpoint("llava", sharded=True)


def shards_of(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


LOADS = {
    "from_pretrained": "import hf_zspa; hf_zspa.from_pretrained({name!r})",
    "load_zspa": "from hf_zspa.loading import load_zspa; load_zspa({name!r})",  # bench, tune, visualize and app
    "convert": "import hf_zspa; hf_zspa.convert_checkpoint({name!r}, {out!r})",
}


@pytest.mark.parametrize("way", LOADS)
@pytest.mark.parametrize("single", [False, True], ids=["shards", "one file"])
def test_only_the_weights_that_transformers_reads_are_downloaded(
    hub, client, base_checkpoint, sharded, repository, tmp_path, way, single
):
    """The single file, where there is one beside an index."""
    files = repository_of(sharded)
    if single:
        files["model.safetensors"] = (base_checkpoint("llava") / "model.safetensors").read_bytes()
    hub.add(repository, files)
    client.python(LOADS[way].format(name=repository, out=str(tmp_path / "out")))
    assert downloaded(hub, repository) == (["model.safetensors"] if single else shards_of(sharded))


def test_a_variant_of_the_weights_is_downloaded_alone(hub, client, base_checkpoint, repository):
    files = repository_of(base_checkpoint("llava"))
    hub.add(repository, files | {"model.fp16.safetensors": files["model.safetensors"]})
    client.python(f"import hf_zspa; hf_zspa.from_pretrained({repository!r}, variant='fp16')")
    assert downloaded(hub, repository) == ["model.fp16.safetensors"]


@pytest.mark.parametrize("way", ["from_pretrained", "convert"])
def test_config_and_weights_are_of_one_commit_and_there_without_the_hub(
    hub, client, sharded, repository, tmp_path, way
):
    """Somebody commits while a base is being looked at."""
    hub.add(repository, repository_of(sharded))
    commit, out = hub.repos[repository].branches["main"], str(tmp_path / "out")
    call = LOADS[way].format(name=repository, out=out)
    where = {"from_pretrained": "hf_zspa.models.in_memory", "convert": "hf_zspa.checkpoints.convert"}[way]
    client.python(f"""
import importlib
from huggingface_hub import HfApi
module = importlib.import_module({where!r})
checked = module.family_of
def commits_and_checks(*arguments):
    HfApi().upload_file(path_or_fileobj=b"another", path_in_repo={shards_of(sharded)[1]!r}, repo_id={repository!r})
    return checked(*arguments)
module.family_of = commits_and_checks
try:
    {call}
finally:
    module.family_of = checked
""")
    assert hub.repos[repository].branches["main"] != commit
    hub.requests.clear()
    client.python(
        f"import hf_zspa; hf_zspa.from_pretrained({repository!r}, revision={commit!r}, local_files_only=True)"
    )
    assert not hub.requests


def test_an_index_that_names_other_places_downloads_nothing(hub, client, sharded, repository):
    index = b'{"weight_map": {"a": "../model.safetensors"}}'
    hub.add(repository, repository_of(sharded) | {"model.safetensors.index.json": index})
    said = client.python(f"""
import hf_zspa
try:
    hf_zspa.from_pretrained({repository!r})
except ValueError as error:
    result = str(error)
""")
    assert "names '../model.safetensors', but must name .safetensors files beside it" in said
    assert downloaded(hub, repository) == []


def test_a_checkpoint_from_the_hub_is_saved_with_code_and_an_auto_map_of_its_own(client, published, tmp_path):
    client.python(published + f"""
model = transformers.AutoModelForImageTextToText.from_pretrained(name, revision=revision, trust_remote_code=True)
model.save_pretrained({str(tmp_path / "saved")!r})
""")  # fmt: skip
    done = client.run("verify", tmp_path / "saved")
    assert done.status == 0, done.out


def test_the_shipped_model_answers_after_its_way_over_the_hub(hub, client, tmp_path, repository):
    files = {path.name: path.read_bytes() for path in checkpoint_folder("embedded").iterdir()}
    hub.add(repository, files)
    image, question = EXAMPLES / "relation.png", "is the pink sign above or below the cyan circle ?"
    done = client.run("visualize", repository, "--image", image, "--prompt", question, "-o", tmp_path / "k.png")
    assert done.status == 0 and "kept 14 of 144 visual tokens" in done.out, done.err
