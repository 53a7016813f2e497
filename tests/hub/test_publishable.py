"""What is refused before anything is asked of the Hub."""

import hashlib
import json

import pytest

from hf_zspa.version import __version__, install_command


def edit_config(folder, **entries):
    config = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps(config))


ANOTHER_VERSION = (
    f"was written by hf_zspa 0.0.9, whose code {__version__} cannot judge: {install_command('0.0.9')} to publish it as "
    "it is, or hf-zspa convert BASE OUT"
)


def spoiled(checkpoint, how):
    if how == "code":
        path = checkpoint / "zspa_visuals.py"
        path.write_text(path.read_text().replace("torch", "touch", 1))
    elif how == "pickle":
        (checkpoint / "pytorch_model.bin").write_bytes(b"x")
    elif how == "folder":
        (checkpoint / "original").mkdir()
    elif how == "weights":
        (checkpoint / "model.safetensors").write_bytes(b"short")
    elif how == "adapter":
        (checkpoint / "adapter_config.json").write_text('{"base_model_name_or_path": "else/where"}')
    elif how == "another name":
        (checkpoint / "two\nlines.txt").write_text("x")
    elif how == "another version":
        edit_config(checkpoint, zspa_version="0.0.9")
    elif how == "code of another version":  # whoever changes the code can change digest and version with it
        path = spoiled(checkpoint, "code") / "zspa_visuals.py"
        digests = json.loads((checkpoint / "config.json").read_text())["zspa_code_sha256"]
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        edit_config(checkpoint, zspa_version="0.0.9", zspa_code_sha256=digests)
    elif how == "no family":
        edit_config(checkpoint, model_type=["llava"])
    elif how == "stock":
        config = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "zspa" not in k}))
    return checkpoint


@pytest.mark.parametrize(
    "how, message",
    [
        ("code", "is not as hf_zspa wrote it: zspa_visuals.py line"),
        ("adapter", "is not as hf_zspa wrote it: adapter_config.json makes it an adapter"),
        ("another version", ANOTHER_VERSION),
        ("code of another version", ANOTHER_VERSION),
        ("pickle", "holds pytorch_model.bin, which does not belong to a checkpoint"),
        ("folder", "holds original/, which does not belong to a checkpoint"),
        ("another name", "holds two\\nlines.txt, which does not belong to a checkpoint"),
        ("weights", "model.safetensors is not a complete safetensors file"),
        ("stock", "is not a zspa checkpoint: make one with hf-zspa convert"),
        ("no family", "is not a zspa checkpoint: make one with hf-zspa convert"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_not_published(hub, client, checkpoint, repository, how, message):
    done = client.run("push", spoiled(checkpoint, how), repository)
    assert done.status == 1 and message in done.err
    assert not hub.requests


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"zspa_keepratio": 0.3}, "cannot be loaded: config.json has zspa_keepratio, did you mean zspa_keep_ratio?"),
        ({"zspa_position_ids": "nonsense"}, "cannot be loaded: zspa_position_ids is 'nonsense', but must be"),
        ({"zspa_keep_ratio": "abc"}, "cannot be loaded: zspa_keep_ratio is 'abc', but must be"),
        ({"zspa_keep_ratio": True}, "cannot be loaded: zspa_keep_ratio is True, but must be"),
        ({"vision_config": None}, "config.json has no vision_config, which its weights belong to"),
        ({"text_config": {}}, "config.json has no text_config, which its weights belong to"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_loaded_is_not_published(hub, client, checkpoint, repository, entries, message):
    edit_config(checkpoint, **entries)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err, done.err
    assert not hub.requests


def test_a_field_with_a_default_may_be_missing(hub, client, checkpoint, repository):
    config = json.loads((checkpoint / "config.json").read_text())
    del config["zspa_keep_ratio"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert b"it keeps 10 % of the tokens" in hub.files(repository)["README.md"]


def test_what_belongs_to_a_checkpoint_is_published(hub, client, checkpoint, repository):
    for name in ("vocab.json", "tokenizer.model", "License.pdf", "NOTICE", "USE_POLICY.md", "logo.png", "results.json"):
        (checkpoint / name).write_text("{}")
    (checkpoint / "additional_chat_templates").mkdir()
    (checkpoint / "additional_chat_templates" / "short.jinja").write_text("{{ messages }}")
    for folder in (".git", ".cache"):
        (checkpoint / folder).mkdir()
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    expected = {p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()}
    assert expected == hub.files(repository).keys() - {".gitattributes"}
    assert client.run("verify", repository).status == 0
