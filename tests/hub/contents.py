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


def pushed_behind_another(client, checkpoint, repository, revision=None, before="create_commit", do=None):
    """What a push says when somebody does something, commits a file unless told, just before one of its own steps.

    Args:
        before: the method of HfApi.
        do: a line of Python.
    """
    file = f'path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id={repository!r}, revision={revision!r}'
    return client.python(f"""
from huggingface_hub import HfApi
from hf_zspa.hub.push import push_checkpoint
step = HfApi.{before}
def other_first(api, *arguments, **options):
    HfApi.{before} = step
    {do or f"HfApi().upload_file({file})"}
    return step(api, *arguments, **options)
HfApi.{before} = other_first
try:
    result = push_checkpoint({str(checkpoint)!r}, {repository!r}, revision={revision!r}).commit
except ValueError as error:
    result = str(error)
finally:
    HfApi.{before} = step
""")
