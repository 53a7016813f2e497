"""A push goes on with the card that a person edited, here or on the Hub, and with neither where both were."""

import pytest

from hub.contents import arrived, local

PERSONS = b"---\nlicense: apache-2.0 # ours\nlanguage: no\n---\n\n# My model\n\nAbout it.\n"


def published(client, checkpoint, repository):
    """The card as two pushes left it."""
    readme = checkpoint / "README.md"
    assert client.run("push", checkpoint, repository).status == 0
    readme.write_text(readme.read_text() + "\nalpha\n\nomega\n")
    assert client.run("push", checkpoint, repository).status == 0
    return readme.read_text()


def test_what_was_typed_on_the_hub_stays(hub, client, checkpoint, repository):
    card = published(client, checkpoint, repository)
    theirs = card.replace("alpha\n\nomega", "  alpha\n\n\nomega").replace("---\n", "---\n# by Ann\n", 1)
    client.upload(repository, "README.md", theirs.encode())
    (checkpoint / "NOTICE.txt").write_text("a notice")
    assert client.run("push", checkpoint, repository).status == 0
    now = arrived(hub, repository)["README.md"].decode()
    assert now.startswith("---\n# by Ann\n") and now.endswith("\n  alpha\n\n\nomega\n")
    assert arrived(hub, repository) == local(checkpoint)


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry", "real"])
def test_a_conflict_is_refused_and_over_when_one_card_is_in_both_places(hub, client, checkpoint, repository, dry_run):
    card = published(client, checkpoint, repository)
    ours, theirs = (card.replace("alpha", word).encode() for word in "AB")
    (checkpoint / "README.md").write_bytes(ours)
    client.upload(repository, "README.md", theirs)
    done = client.run("push", checkpoint, repository, *dry_run)
    fetch = f"fetch that with hf download {repository} README.md --local-dir FOLDER, make one of the two, send it with "
    assert done.status == 1 and f"{fetch}hf upload {repository} README.md" in done.err, done.err
    assert arrived(hub, repository)["README.md"] == theirs and (checkpoint / "README.md").read_bytes() == ours
    client.upload(repository, "README.md", ours)
    assert client.run("push", checkpoint, repository, *dry_run).status == 0


def test_the_first_push_beside_the_card_of_a_person_keeps_it(hub, client, checkpoint, repository):
    hub.add(repository, {"README.md": PERSONS})
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    now = arrived(hub, repository)["README.md"].decode()
    assert now.startswith(PERSONS.decode().split("---\n\n")[0]) and now.endswith("# My model\n\nAbout it.\n")
    assert "- custom_code\n" in now


def test_a_push_beside_a_card_of_another_licence_is_refused(hub, client, checkpoint, repository):
    hub.add(repository, {"README.md": PERSONS.replace(b"apache-2.0", b"mit")})
    readme = checkpoint / "README.md"
    assert "license: apache-2.0\n" in readme.read_text()
    done = client.run("push", checkpoint, repository, "--dry-run")
    assert done.status == 1 and "their metadata differs (license)" in done.err, done.err


@pytest.mark.parametrize("side", ["here", "there"])
@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"caf\xe9", "{} is not UTF-8"),
        (b"---\nmodel-index: foo\n---\n# Mine\n", "the metadata of {} cannot be read"),
        (b"---\nx: [\n---\n# Mine\n", "the metadata of {} cannot be read"),
        (b"<!-- hf-zspa: end -->", "{} has only one of the two hf-zspa markers"),
    ],
    ids=["latin", "index", "yaml", "marker"],
)
def test_a_card_that_cannot_be_read_is_named(hub, client, checkpoint, repository, side, card, said):
    if side == "here":
        (checkpoint / "README.md").write_bytes(card)
    else:
        hub.add(repository, {"README.md": card})
    done = client.run("push", checkpoint, repository, "--dry-run")
    where = f"{checkpoint}/README.md" if side == "here" else f"README.md in {repository}"
    assert done.status == 1 and said.format(where) in done.err and "Traceback" not in done.err, done.err


def test_a_card_without_markers_that_is_edited_again_goes_as_the_message_says(hub, client, checkpoint, repository):
    plain = "---\nlicense: mit\nbase_model: org/base\n---\n\n# Mine\n\nOne.\n"
    hub.add(repository, {"README.md": plain.encode()})
    (checkpoint / "README.md").write_text(plain)
    assert client.run("push", checkpoint, repository).status == 0
    edited = (checkpoint / "README.md").read_text().replace("One.", "Two.")
    (checkpoint / "README.md").write_text(edited)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "nobody knows which of README.md here" in done.err and "hf upload" in done.err
    client.upload(repository, "README.md", edited.encode())
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository)["README.md"].decode() == edited
