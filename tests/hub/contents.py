"""What there is here and on the Hub, for the tests to compare."""


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
