"""A push merges the card of the folder and that of the repository with the one that was published last."""

import pytest

from hub.contents import arrived, local
from hub.protocol import Fault

PERSONS = b"---\nlicense: apache-2.0 # ours\nlanguage: no\n---\n\n# My model\n\nAbout it.\n"


def published(client, checkpoint, repository, text="\nalpha\n\nomega\n"):
    """The card as two pushes left it; the first one's commit is what it pins."""
    assert client.run("push", checkpoint, repository).status == 0
    readme = checkpoint / "README.md"
    readme.write_text(readme.read_text() + text)
    assert client.run("push", checkpoint, repository).status == 0
    return readme.read_text()


def edited_on_both_sides(client, checkpoint, repository, here, there):
    (checkpoint / "README.md").write_text(here)
    client.upload(repository, "README.md", there.encode())
    return client.run("push", checkpoint, repository)


def test_removals_and_additions_of_both_sides_meet_in_the_published_card(hub, client, checkpoint, repository):
    card = published(client, checkpoint, repository)
    here = card.replace("\nalpha\n", "").replace("license: apache-2.0\n", "")
    done = edited_on_both_sides(client, checkpoint, repository, here, f"{card}\n  indented\n")
    assert done.status == 0, done.err
    now = arrived(hub, repository)["README.md"].decode()
    assert "alpha" not in now and "license: apache-2.0" not in now and now.endswith("\nomega\n\n  indented\n")
    assert arrived(hub, repository) == local(checkpoint)


def test_white_space_and_comments_typed_on_the_hub_stay(hub, client, checkpoint, repository):
    card = published(client, checkpoint, repository)
    theirs = card.replace("alpha\n\nomega", "  alpha\n\n\nomega").replace("---\n", "---\n# by Ann\n", 1)
    client.upload(repository, "README.md", theirs.encode())
    (checkpoint / "NOTICE.txt").write_text("a notice")
    assert client.run("push", checkpoint, repository).status == 0
    now = arrived(hub, repository)["README.md"].decode()
    assert now.startswith("---\n# by Ann\n") and now.endswith("\n  alpha\n\n\nomega\n")


def test_a_conflict_is_over_when_the_card_of_the_folder_is_uploaded(hub, client, checkpoint, repository):
    card = published(client, checkpoint, repository)
    ours, theirs = card.replace("alpha", "A"), card.replace("alpha", "B")
    done = edited_on_both_sides(client, checkpoint, repository, ours, theirs)
    assert done.status == 1 and "was changed here and in" in done.err and "hf upload" in done.err
    assert edited_on_both_sides(client, checkpoint, repository, ours, ours).status == 0


def test_an_older_card_that_cannot_be_had_is_no_reason_to_guess(hub, client, checkpoint, repository):
    card = published(client, checkpoint, repository)
    hub.faults.append(Fault("GET", "/commits/", times=99, status=502))
    here = card.replace("alpha", "A")
    done = edited_on_both_sides(client, checkpoint, repository, here, f"{card}\nmore\n")
    assert done.status == 1 and "Nothing was published" in done.err, done.err
    assert (checkpoint / "README.md").read_text() == here


def test_the_first_push_beside_the_card_of_a_person_keeps_it(hub, client, checkpoint, repository):
    hub.add(repository, {"README.md": PERSONS})
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    now = arrived(hub, repository)["README.md"].decode()
    assert now.startswith(PERSONS.decode().split("---\n\n")[0]) and now.endswith("# My model\n\nAbout it.\n")
    assert "- custom_code\n" in now


def test_another_licence_there_is_not_called_a_change_here(hub, client, checkpoint, repository):
    hub.add(repository, {"README.md": PERSONS.replace(b"apache-2.0", b"mit")})
    done = client.run("push", checkpoint, repository, "--dry-run")
    assert done.status == 1 and "its metadata (license) differs" in done.err and "changed here" not in done.err


@pytest.mark.parametrize("side", ["here", "there"])
def test_a_card_that_is_not_utf8_is_named(hub, client, checkpoint, repository, side):
    if side == "here":
        (checkpoint / "README.md").write_bytes(b"caf\xe9")
    else:
        hub.add(repository, {"README.md": b"caf\xe9"})
    done = client.run("push", checkpoint, repository, "--dry-run")
    where = f"{checkpoint}/README.md" if side == "here" else f"README.md in {repository}"
    assert done.status == 1 and f"{where} is not UTF-8" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("side", ["here", "there"])
@pytest.mark.parametrize(
    ("line", "said"),
    [("model-index: foo", "without `results` lists"), ("language: en\nlanguage: de", "language twice")],
)
def test_metadata_that_cannot_be_merged_is_named_with_its_card(hub, client, checkpoint, repository, side, line, said):
    card = f"---\n{line}\n---\n# Mine\n".encode()
    if side == "here":
        (checkpoint / "README.md").write_bytes(card)
    else:
        hub.add(repository, {"README.md": card})
    done = client.run("push", checkpoint, repository, "--dry-run")
    where = f"{checkpoint}/README.md" if side == "here" else f"README.md in {repository}"
    assert done.status == 1 and f"the metadata of {where} has " in done.err and said in done.err, done.err


def test_a_card_without_markers_that_is_edited_again_goes_as_the_message_says(hub, client, checkpoint, repository):
    plain = "---\nlicense: mit\nbase_model: org/base\n---\n\n# Mine\n\nOne.\n"
    hub.add(repository, {"README.md": plain.encode()})
    (checkpoint / "README.md").write_text(plain)
    assert client.run("push", checkpoint, repository).status == 0
    edited = (checkpoint / "README.md").read_text().replace("One.", "Two.")
    (checkpoint / "README.md").write_text(edited)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "nobody knows whether it or that in" in done.err and "hf upload" in done.err
    assert "was not made of" not in done.err and "changed here" not in done.err
    client.upload(repository, "README.md", edited.encode())
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository)["README.md"].decode() == edited
