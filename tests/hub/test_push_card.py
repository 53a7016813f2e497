"""The card of the folder: it is put in place whole, and one that cannot be read or written is named."""

from pathlib import Path

import pytest

from hf_zspa.checkpoints.card import pinned_tag
from hub.contents import arrived, local

LATIN = "---\nlicense: mit\n---\n\ncafé\n".encode("latin-1")


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_a_card_here_that_is_not_utf_8(hub, client, checkpoint, repository, dry_run):
    (checkpoint / "README.md").write_bytes(LATIN)
    done = client.run("push", checkpoint, repository, *dry_run)
    assert done.status == 1 and f"{checkpoint}/README.md is not UTF-8: byte" in done.err, done.err
    assert not hub.requests and (checkpoint / "README.md").read_bytes() == LATIN


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_a_card_there_that_is_not_utf_8(hub, client, checkpoint, repository, dry_run):
    repo = hub.add(repository, {"README.md": LATIN})
    done = client.run("push", checkpoint, repository, *dry_run)
    assert done.status == 1 and f"README.md in {repository} is not UTF-8: byte" in done.err, done.err
    assert len(repo.commits) == 1


def test_the_hubs_cache_is_not_written_through(hub, client, checkpoint, repository):
    """The files of a snapshot in the cache are links to what all commits share."""
    client.run("push", checkpoint, repository)
    ask = f"from huggingface_hub import snapshot_download\nresult = snapshot_download({repository!r})"
    snapshot = Path(client.python(ask))
    stored = {path.resolve(): path.read_bytes() for path in snapshot.iterdir()}
    done = client.run("push", snapshot, f"{repository}.copy")
    assert done.status == 0, done.err
    assert {path: path.read_bytes() for path in stored} == stored
    assert hub.files(f"{repository}.copy") == local(snapshot)


def test_a_folder_that_cannot_be_written_stops_nothing_on_the_hub(hub, client, checkpoint, repository):
    before = local(checkpoint)
    lines = client.python(f"""
from hf_zspa.hub import push
def refuse(path, content):
    raise PermissionError(13, "Permission denied", str(path))
real, push.replace_file = push.replace_file, refuse
result = []
try:
    push.push_checkpoint({str(checkpoint)!r}, {repository!r}, tag="v1", say=result.append)
finally:
    push.replace_file = real
""")
    assert any(f"{checkpoint / 'README.md'} cannot be written (Permission denied) and stays" in line for line in lines)
    assert local(checkpoint) == before
    repo = hub.repos[repository]
    assert repo.tags == {"v1": repo.branches["main"]}
    assert pinned_tag(arrived(hub, repository)["README.md"].decode()) == "v1"
    assert client.run("push", checkpoint, repository, "--tag", "v1").status == 0
    assert arrived(hub, repository) == local(checkpoint)
