"""What there is here and on the Hub, for the tests to compare, and a push that comes second."""


def local(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arrived(hub, repository, revision="main"):
    files = hub.files(repository, revision)
    files.pop(".gitattributes", None)
    return files


def uploaded(hub, repository):
    """Bytes of weights that were sent."""
    sent = {path.rpartition("/")[2] for _, path, _ in hub.sent("PUT", f"^/lfs/{repository}/")}
    repo = hub.repos[repository]
    weights = {f.sha256: f for files in repo.commits.values() for n, f in files.items() if n.endswith(".safetensors")}
    return sum(len(file.content) for digest, file in weights.items() if digest in sent)


def pushed_behind_another(client, checkpoint, repository, revision=None):
    """What a push says when somebody commits a file, theirs.txt, just before its own commit."""
    return client.python(f"""
from huggingface_hub import HfApi
from hf_zspa.hub.push import Push
from hf_zspa.hub.request import Request
from pathlib import Path
push = Push(Request(Path({str(checkpoint)!r}), {repository!r}, revision={revision!r}))
commit = push._commit
def other_first(*arguments):
    upload = dict(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id={repository!r})
    HfApi().upload_file(revision={revision!r}, **upload)
    return commit(*arguments)
push._commit = other_first
try:
    push.run()
except ValueError as error:
    result = str(error)
""")
