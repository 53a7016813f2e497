"""Pull requests: what they are opened for, what is added to one, and that the same is not opened twice."""

import pytest

from hub.contents import arrived, local


@pytest.fixture
def changed(hub, client, checkpoint, repository):
    """The repository of a published checkpoint that has been changed since."""
    assert client.run("push", checkpoint, repository).status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")
    return hub.repos[repository]


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_there_is_none_for_a_repository_that_is_not_there(hub, client, checkpoint, repository, dry_run):
    done = client.run("push", checkpoint, repository, "--create-pr", *dry_run)
    assert done.status == 1 and f"the Hub has no repository {repository}, or the token may not see it" in done.err
    assert repository not in hub.repos


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_there_is_none_for_a_branch_that_is_not_there(hub, client, checkpoint, repository, changed, dry_run):
    done = client.run("push", checkpoint, repository, "--create-pr", "--revision", "dev", *dry_run)
    assert done.status == 1 and "has no branch to open a pull request for of the name dev" in done.err
    assert set(changed.branches) == {"main"}


def test_more_is_added_to_the_one_that_is_open(hub, client, checkpoint, repository, changed):
    client.run("push", checkpoint, repository, "--create-pr")
    (checkpoint / "NOTICE.txt").write_text("a longer notice")
    main = changed.branches["main"]
    done = client.run("push", checkpoint, repository, "--revision", "refs/pr/1")
    assert done.status == 0 and f"{hub.url}/{repository}/discussions/1: commit" in done.out, done.err
    assert arrived(hub, repository, "refs/pr/1")["NOTICE.txt"] == b"a longer notice"
    assert set(changed.pull_requests) == {1} and changed.branches["main"] == main
    again = client.run("push", checkpoint, repository, "--revision", "refs/pr/1")
    assert again.status == 0 and "discussions/1 has all of it already" in again.out


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_the_same_is_not_opened_twice(hub, client, checkpoint, repository, changed, dry_run):
    assert client.run("push", checkpoint, repository, "--create-pr").status == 0
    done = client.run("push", checkpoint, repository, "--create-pr", *dry_run)
    assert done.status == 1 and f"the pull request 1 of {repository} is open" in done.err
    assert "--revision refs/pr/1" in done.err and set(changed.pull_requests) == {1}
    assert client.run("push", checkpoint, repository, "--create-pr", "--message", "more", *dry_run).status == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["--revision", "refs/pr/7"], "has no pull request of the name refs/pr/7"),
        (["--revision", "refs/pr/1", "--tag", "v1"], "leave it out with --revision refs/pr/1"),
        (["--revision", "refs/pr/1", "--create-pr"], "--create-pr opens another pull request: leave it out"),
    ],
)
def test_what_cannot_be_added_to(hub, client, checkpoint, repository, changed, options, message):
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and message in done.err
    assert set(changed.branches) == {"main"} and not changed.tags


def test_the_card_of_the_folder_stays_until_the_merge(hub, client, checkpoint, repository, changed):
    (checkpoint / "README.md").write_text((checkpoint / "README.md").read_text() + "\nMy notes.\n")
    before = local(checkpoint)
    assert client.run("push", checkpoint, repository, "--create-pr").status == 0
    assert local(checkpoint) == before
    assert arrived(hub, repository, "refs/pr/1")["README.md"].endswith(b"\nMy notes.\n")
    changed.branches["main"] = changed.branches["refs/pr/1"]
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and "has all of it already" in done.out, done.err
    assert arrived(hub, repository) == local(checkpoint)
