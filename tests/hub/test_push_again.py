"""A push that breaks off after its commit has landed says so, and the same push does what is missing, and no more."""

import pytest

from hf_zspa.checkpoints.card import pinned_tag
from hub.contents import arrived, local
from hub.protocol import Fault

BROKEN = [{"status": 503}, {"cut": 0}, {"lost": True}]


def names_of_faults(fault):
    return next(iter(fault))


def pinned(hub, repository, revision="main"):
    return pinned_tag(arrived(hub, repository, revision)["README.md"].decode())


def changed(client, checkpoint, repository):
    """The checkpoint is published, and is then changed."""
    assert client.run("push", checkpoint, repository).status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")


@pytest.mark.parametrize("broken", BROKEN, ids=names_of_faults)
def test_a_tag_that_failed_is_made_by_the_same_push(hub, client, checkpoint, repository, broken):
    hub.faults.append(Fault("POST", "/tag/", **broken))
    done = client.run("push", checkpoint, repository, "--tag", "v1")
    repo = hub.repos[repository]
    head = repo.branches["main"]
    assert (
        done.status == 1 and f"Commit {head[:8]} is published, but the tag v1 may be missing. Run the same" in done.err
    )
    assert "Nothing was published" not in done.err
    assert arrived(hub, repository) == local(checkpoint)
    again = client.run("push", checkpoint, repository, "--tag", "v1")
    assert again.status == 0, again.err
    assert repo.tags == {"v1": head} and repo.branches["main"] == head
    assert ("has all of it already" if "lost" in broken else "tag v1, 0 bytes sent") in again.out


def test_a_dry_run_says_which_tag_is_missing(hub, client, checkpoint, repository):
    hub.faults.append(Fault("POST", "/tag/", status=503))
    client.run("push", checkpoint, repository, "--tag", "v1")
    assert "the tag v1 would be made" in client.run("push", checkpoint, repository, "--tag", "v1", "--dry-run").out
    client.run("push", checkpoint, repository, "--tag", "v1")
    assert "would be made" not in client.run("push", checkpoint, repository, "--tag", "v1", "--dry-run").out


def test_a_card_that_names_a_tag_that_was_never_made_names_it_no_longer(hub, client, checkpoint, repository):
    hub.faults.append(Fault("POST", "/tag/", status=503))
    client.run("push", checkpoint, repository, "--tag", "v1")
    assert pinned(hub, repository) == "v1"
    assert client.run("push", checkpoint, repository).status == 0
    assert pinned(hub, repository) is None


def test_a_tag_of_another_commit_is_refused_though_no_file_changes(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository, "--tag", "v1")
    client.upload(repository, "theirs.txt", b"theirs")
    done = client.run("push", checkpoint, repository, "--tag", "v1")
    assert done.status == 1 and "has the tag v1 already, and a tag never moves" in done.err


@pytest.mark.parametrize("options", [[], ["--tag", "v1"]], ids=["plain", "tag"])
def test_a_commit_that_landed_without_an_answer_is_followed_by_the_rest(hub, client, checkpoint, repository, options):
    changed(client, checkpoint, repository)
    before, old = local(checkpoint), hub.repos[repository].branches["main"]
    hub.faults.append(Fault("POST", "/commit/", lost=True))
    done = client.run("push", checkpoint, repository, *options)
    repo = hub.repos[repository]
    landed = repo.branches["main"]
    assert landed != old and "NOTICE.txt" in arrived(hub, repository)
    assert done.status == 1 and f"{repository} has a new commit, {landed[:8]}, which may be this one" in done.err
    assert "Nothing was published" not in done.err and local(checkpoint) == before
    again = client.run("push", checkpoint, repository, *options)
    assert again.status == 0, again.err
    assert arrived(hub, repository) == local(checkpoint)
    assert pinned(hub, repository) == ("v1" if options else None)
    assert repo.tags == ({"v1": landed} if options else {})


def test_what_cannot_be_found_out_is_not_claimed(hub, client, checkpoint, repository):
    changed(client, checkpoint, repository)
    hub.faults.append(Fault("POST", "/commit/", cut=0))
    hub.faults.append(Fault("GET", f"^/api/models/{repository}$", spared=1, times=99, status=502))
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "It is not known whether the commit arrived. Run the same command again" in done.err


def test_a_pull_request_that_may_have_been_opened_is_to_be_looked_for(hub, client, checkpoint, repository):
    changed(client, checkpoint, repository)
    hub.faults.append(Fault("POST", "/commit/", lost=True))
    done = client.run("push", checkpoint, repository, "--create-pr")
    assert done.status == 1 and f"look at {hub.url}/{repository}/discussions before you push again" in done.err
    assert "Nothing was published" not in done.err and "Run the same command" not in done.err
