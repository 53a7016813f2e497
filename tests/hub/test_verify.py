"""Whose code a checkpoint holds, found out without running it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.checkpoints.verify import verify_checkpoint
from hf_zspa.version import __version__, install_command
from hub.protocol import Fault
from hub.tampering import TAMPERING, edit, put, tampered_end


def test_a_conversion_is_verified_here_and_on_the_hub(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository, "--tag", "v1").status == 0
    for what in (checkpoint, repository, f"{repository}@v1"):
        done = client.run("verify", what, token=None)
        assert done.status == 0, done.out
        assert f"has the code of hf_zspa {__version__}, and no other" in done.out
        assert ("commit: " in done.out) == (what != checkpoint)
    assert f'to load what was verified: revision="{hub.repos[repository].tags["v1"]}"' in done.out
    assert not [r for r in hub.sent("GET", r"\.safetensors$")]


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda function: function.__name__)
def test_tampering_is_found_here_and_on_the_hub_and_not_run(hub, client, checkpoint, repository, tamper):
    tamper(checkpoint)
    hub.add(repository, {p.relative_to(checkpoint).as_posix(): p.read_bytes() for p in checkpoint.rglob("*.*")
                         if p.is_file()})  # fmt: skip
    for what in (checkpoint, repository):
        done = client.run("verify", what)
        assert done.status == 1 and TAMPERING[tamper] in done.out, done.out + done.err
        assert f"{what} is not verified" in done.out and "strange" not in done.out.replace("strange_", "")
        assert "index-url" not in done.out


def linked_folder(folder, elsewhere):
    (elsewhere / "generate.py").write_text("print('strange')")
    (folder / "custom_generate").symlink_to(elsewhere)
    return "custom_generate"


def linked_folder_of_its_own(folder, elsewhere):
    (folder / "more").symlink_to(folder)
    return "more"


def linked_code(folder, elsewhere):
    (folder / "zspa_prompt.py").rename(elsewhere / "zspa_prompt.py")
    (folder / "zspa_prompt.py").symlink_to(elsewhere / "zspa_prompt.py")
    return "zspa_prompt.py"


def linked_to_nothing(folder, elsewhere):
    (folder / "tokenizer.model").symlink_to(elsewhere / "later")
    return "tokenizer.model"


@pytest.mark.parametrize("link", [linked_folder, linked_folder_of_its_own, linked_code, linked_to_nothing])
def test_a_link_that_leads_out_of_a_folder_is_found(checkpoint, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    name = link(checkpoint, tmp_path / "elsewhere")
    assert f"{name} is a link to a folder, or to what is not in the checkpoint" in "; ".join(
        verify_checkpoint(checkpoint).problems
    )


def test_a_link_within_the_folder_and_a_word_of_the_vocabulary_are_nothing(checkpoint):
    (checkpoint / "NOTICE").symlink_to(checkpoint / "LICENSE")
    put(checkpoint / "vocab.json", auto_map=7, configuration_files=8)
    assert verify_checkpoint(checkpoint).passed


@pytest.mark.parametrize("family", ["llava_next", "qwen2_5_vl"])
def test_another_family_is_verified(base_checkpoint, tmp_path, family):
    assert verify_checkpoint(convert_checkpoint(base_checkpoint(family), tmp_path / "out")).passed


@pytest.mark.parametrize(
    "entry, kind",
    [
        *(("text_config", kind) for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "granite")),
        *(("vision_config", kind) for kind in ("clip_vision_model", "siglip_vision_model", "pixtral", None)),
    ],
)
def test_a_llava_may_be_made_of_what_published_ones_are(checkpoint, entry, kind):
    part = json.loads((checkpoint / "config.json").read_text())[entry]
    part |= {"_name_or_path": "/data/models--org--name/run--v1.final"}
    part.pop("model_type") if kind is None else part.update(model_type=kind)
    put(checkpoint / "config.json", **{entry: part})
    assert verify_checkpoint(checkpoint).passed


@pytest.mark.parametrize("kind", [*FAMILIES["llava"].text, *FAMILIES["llava"].vision])
def test_a_part_that_a_llava_may_have_loads_nothing_itself(kind):
    """Read from transformers' own source, without the examples in it and without models of TensorFlow and Flax."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    folder = Path(transformers.__file__).parent / "models" / model_type_to_module_name(kind)
    modules = [path for path in folder.glob("*.py") if path.name.startswith(("modeling_", "configuration_"))]
    sources = [path.read_text() for path in modules if not path.name.startswith(("modeling_tf_", "modeling_flax_"))]
    assert len(sources) >= 2
    lines = [line for source in sources for line in source.splitlines() if ">>>" not in line]
    loading = ("load_backbone", "from_pretrained(", "torch.load", "timm.", "get_kernel(", "lazy_load_kernel", "pickle")
    assert not [line for line in lines if any(word in line for word in loading)]


def test_what_pip_compiles_beside_a_shipped_checkpoint_is_nothing(checkpoint):
    (checkpoint / "__pycache__").mkdir()
    (checkpoint / "__pycache__" / "zspa_prompt.cpython-311.pyc").write_bytes(b"x")
    assert verify_checkpoint(checkpoint).passed
    (checkpoint / "zspa_prompt.pyc").write_bytes(b"x")
    assert not verify_checkpoint(checkpoint).passed


def test_the_hubs_cache_is_verified_as_a_folder(client, checkpoint, repository):
    assert client.run("push", checkpoint, repository).status == 0
    fetch = f"from huggingface_hub import snapshot_download\nresult = snapshot_download({repository!r})"
    folder = client.python(fetch)
    assert os.path.islink(f"{folder}/zspa_prompt.py")
    done = client.run("verify", folder)
    assert done.status == 0, done.out


@pytest.mark.parametrize(
    "fault, message",
    [
        (Fault("GET", "/api/models/", status=503), ""),
        (Fault("GET", "/api/models/", times=99, status=503), "the Hub answered: "),
        (Fault("GET", "/api/models/", times=99, cut=0), "is out of reach"),
        (Fault("GET", "/tree/", times=99, status=500), "the Hub answered: "),
        (Fault("GET", "/tree/", times=99, cut=0), "is out of reach"),
    ],
    ids=["503 once", "503", "cut", "tree 500", "tree cut"],
)
def test_what_the_cache_has_is_not_taken_for_what_the_hub_has(hub, client, checkpoint, repository, fault, message):
    assert client.run("push", checkpoint, repository).status == 0
    assert client.run("verify", repository).status == 0
    tampered_end(checkpoint)
    client.upload(repository, "zspa_prompt.py", (checkpoint / "zspa_prompt.py").read_bytes())
    hub.faults.append(fault)
    done = client.run("verify", repository)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err, done.err
    assert "and no other" not in done.out


def test_names_and_contents_are_of_one_commit(hub, client, checkpoint, repository):
    """Somebody commits while a repository is being looked at."""
    assert client.run("push", checkpoint, repository).status == 0
    before = hub.repos[repository].branches["main"]
    found = client.python(f"""
from huggingface_hub import HfApi
from hf_zspa.checkpoints.verify import verify_checkpoint
listed = HfApi.list_repo_files
def then_a_commit(self, *arguments, **options):
    names = listed(self, *arguments, **options)
    for name in ("zspa_prompt.py", "helper.py"):
        HfApi().upload_file(path_or_fileobj=b"other", path_in_repo=name, repo_id={repository!r})
    return names
HfApi.list_repo_files = then_a_commit
try:
    found = verify_checkpoint({repository!r})
finally:
    HfApi.list_repo_files = listed
result = [found.passed, found.commit]
""")
    assert hub.repos[repository].branches["main"] != before
    assert found == [True, before]


@pytest.mark.parametrize(
    "variable, value, message",
    [("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"), ("HF_ENDPOINT", "http://127.0.0.1:9", "is out of reach")],
)
def test_without_a_connection_it_says_so(tmp_path, variable, value, message):
    off = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment = off | {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    command = [sys.executable, "-m", "hf_zspa", "verify", "org/name"]
    done = subprocess.run(command, env=environment | {variable: value}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr


def test_a_checkpoint_of_another_version_says_which(client, checkpoint):
    edit(checkpoint / "config.json", f'"zspa_version": "{__version__}"', '"zspa_version": "0.0.9"')
    done = client.run("verify", checkpoint)
    assert done.status == 1 and install_command("0.0.9") in done.out


@pytest.mark.parametrize(
    "what, message",
    [
        ("org/nowhere", "the Hub has no such repository"),
        ("org/stock", "there is no code of hf_zspa in it to verify; hf-zspa convert org/stock OUT makes one"),
        ("org/stock@v9", "on the Hub it has no revision v9"),
    ],
)
def test_what_cannot_be_verified_is_one_line(hub, client, base_checkpoint, what, message):
    hub.add("org/stock", {path.name: path.read_bytes() for path in base_checkpoint("llava").iterdir()})
    done = client.run("verify", what)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err
