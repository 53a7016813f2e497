"""Files that the checkpoint has no longer, or never had: what transformers loads by name goes, the rest is named."""

import shutil

import pytest

from hub.contents import arrived, local

READ_BY_NAME = [
    "generation_config.json", "chat_template.jinja", "chat_template.json", "additional_chat_templates/tool.jinja",
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json",
]  # fmt: skip


def test_what_transformers_reads_by_name_goes_with_the_local_file(hub, client, checkpoint, repository):
    gone = [name for name in READ_BY_NAME if (checkpoint / name).is_file() and "processor" not in name]
    assert {"generation_config.json", "tokenizer.json"} <= {*gone}
    assert client.run("push", checkpoint, repository).status == 0
    for name in gone:
        (checkpoint / name).unlink()
    planned = client.run("push", checkpoint, repository, "--dry-run")
    lines = dict(line.split()[::2] for line in planned.out.splitlines() if len(line.split()) == 3)
    assert {name for name in lines if lines[name] == "remove"} == {*gone}
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert f"removed there, for they are not in {checkpoint}: {', '.join(sorted(gone))}" in done.out
    assert arrived(hub, repository) == local(checkpoint)


def test_all_that_transformers_reads_by_name_goes(hub, client, checkpoint, repository):
    lacking = [name for name in READ_BY_NAME if not (checkpoint / name).is_file()]
    hub.add(repository, dict.fromkeys([".gitattributes", *lacking, "folder/vocab.json"], b"{}"))
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository) == local(checkpoint) | {"folder/vocab.json": b"{}"}


@pytest.mark.parametrize("published_before", [False, True])
def test_what_stays_is_named(hub, client, checkpoint, repository, published_before):
    if published_before:
        client.run("push", checkpoint, repository)
        client.upload(repository, "notes.md", b"notes")
    else:
        hub.add(repository, {"notes.md": b"notes"})
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and f"left there, though they are not in {checkpoint}: notes.md" in done.out, done.err
    assert arrived(hub, repository)["notes.md"] == b"notes"


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "model.safetensors.index.json"])
def test_weights_that_are_not_loaded_are_not_published(hub, client, checkpoint, repository, name):
    shutil.copy(checkpoint / "model.safetensors", checkpoint / name)
    if name.endswith(".json"):
        (checkpoint / name).write_text('{"weight_map": {"a": "model.safetensors"}}')
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and f"holds {name}, which transformers does not load beside model.safetensors" in done.err
    assert not hub.requests
