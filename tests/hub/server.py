"""A Hub on loopback: as much of its API as huggingface_hub needs to publish and load models, kept in memory.

It can answer a request with an error, or cut the connection in the middle of one, as often as a test asks for. It shows
that the client side is right, not what the real Hub accepts.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs

from .protocol import Fault, Handler, Refused
from .repositories import File, Repo, is_large


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []  # method, path, bytes of the body
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, repo_id: str, files: dict[str, bytes], *, private: bool = False) -> Repo:
        """A repository with one commit."""
        repo = self.repos[repo_id] = Repo(private)
        repo.stored = {hashlib.sha256(c).hexdigest(): c for n, c in files.items() if is_large(n, len(c))}
        repo.commit({name: File(c, is_large(name, len(c))) for name, c in files.items()}, "main", "initial")
        return repo

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[repo_id]
        sha = repo.resolve(revision)
        return {path: file.content for path, file in repo.commits[sha].items()} if sha else {}

    def sent(self, method: str, path: str) -> list[tuple[str, str, int]]:
        """The requests of a method whose path matches."""
        return [r for r in self.requests if r[0] == method and re.search(path, r[1])]


class _Handler(Handler):
    def _route(self) -> None:
        for method, pattern, handler in _ROUTES:
            found = re.fullmatch(pattern, self.where)
            if found and self.command in method:
                handler(self, *found.groups())
                return
        raise Refused(404, f"no such page: {self.where}", "EntryNotFound" if "/resolve/" in self.where else "")

    def whoami(self) -> None:
        self._check_token()
        if not self.token:
            raise Refused(401, "Invalid username or password.")
        self._answer(200, {"name": "org", "type": "user", "auth": {"accessToken": {"role": "write"}}, "orgs": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'org'}/{asked['name']}"
        self._writable(repo_id)
        if repo_id in self.server.repos:
            raise Refused(409, "You already created this model repo", url=f"{self.server.url}/{repo_id}")
        repo = self.server.repos[repo_id] = Repo(bool(asked.get("private")) or asked.get("visibility") == "private")
        repo.commit({".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "main", "initial commit")
        self._answer(200, {"url": f"{self.server.url}/{repo_id}", "name": repo_id, "id": repo_id})

    def validate_yaml(self) -> None:
        errors = [] if "base_model_relation: nonsense" not in json.loads(self.body)["content"] else ["bad relation"]
        self._answer(200, {"errors": [{"message": e} for e in errors], "warnings": []})

    def info(self, repo_id: str, revision: str | None = None) -> None:
        repo = self._repo(repo_id)
        sha = self._sha(repo, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
        self._answer(200, {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": sha, "private": repo.private,
                           "gated": False, "disabled": False, "tags": [], "siblings": siblings})  # fmt: skip

    def tree(self, repo_id: str, revision: str, folder: str | None = None) -> None:
        repo = self._repo(repo_id)
        files = repo.commits[self._sha(repo, revision)]
        prefix = f"{folder}/" if folder else ""
        found = [file.entry(path) for path, file in sorted(files.items()) if path.startswith(prefix)]
        if folder and not found:
            raise Refused(404, f"{folder} does not exist", "EntryNotFound")
        self._answer(200, found)

    def paths_info(self, repo_id: str, revision: str) -> None:
        repo = self._repo(repo_id)
        files = repo.commits[self._sha(repo, revision)]
        asked = json.loads(self.body) if self.body[:1] == b"{" else parse_qs(self.body.decode())
        self._answer(200, [files[path].entry(path) for path in asked["paths"] if path in files])

    def commits(self, repo_id: str, revision: str) -> None:
        repo = self._repo(repo_id)
        sha: str | None = self._sha(repo, revision)
        found = []
        while sha:
            when = "2026-01-01T00:00:00.000Z"
            found.append({"id": sha, "title": repo.messages[sha], "message": "", "date": when, "authors": []})
            sha = repo.parents[sha]
        self._answer(200, found)

    def refs(self, repo_id: str) -> None:
        repo = self._repo(repo_id)
        branches = [_ref(f"refs/heads/{n}", sha) for n, sha in repo.branches.items() if not n.startswith("refs/")]
        tags = [_ref(f"refs/tags/{n}", sha) for n, sha in repo.tags.items()]
        requests = [_ref(n, sha) for n, sha in repo.branches.items() if n.startswith("refs/")]
        asked = {"pullRequests": requests} if self.query.get("include_prs") else {}
        self._answer(200, {"branches": branches, "tags": tags, "converts": [], **asked})

    def discussions(self, repo_id: str) -> None:
        """The open pull requests; there is nothing else to discuss here."""
        author, repo = {"name": "org"}, {"name": repo_id, "type": "model"}
        found = [{"num": number, "title": title, "author": author, "repo": repo, "status": "open",
                  "isPullRequest": True, "createdAt": "2026-01-01T00:00:00.000Z"}
                 for number, title in self._repo(repo_id).pull_requests.items()]  # fmt: skip
        self._answer(200, {"discussions": found, "count": len(found), "start": 0})

    def branch(self, repo_id: str, name: str) -> None:
        self._writable(repo_id)
        repo = self._repo(repo_id)
        if name in repo.branches:
            raise Refused(409, "Reference already exists")
        repo.branches[name] = self._sha(repo, (json.loads(self.body or b"{}") or {}).get("startingPoint") or "main")
        self._answer(200, {})

    def delete_branch(self, repo_id: str, name: str) -> None:
        self._writable(repo_id)
        repo = self._repo(repo_id)
        if name not in repo.branches:
            raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
        del repo.branches[name]
        self._answer(200, {})

    def tag(self, repo_id: str, revision: str) -> None:
        self._writable(repo_id)
        repo, name = self._repo(repo_id), json.loads(self.body)["tag"]
        if name in repo.tags:
            raise Refused(409, "Tag reference exists already")
        repo.tags[name] = self._sha(repo, revision)
        self._answer(200, {})

    def preupload(self, repo_id: str, revision: str) -> None:
        self._writable(repo_id)
        repo = self._repo(repo_id)
        there = repo.commits[self._sha(repo, revision)]
        answers = []
        for asked in json.loads(self.body)["files"]:
            path = asked["path"]
            mode = "lfs" if is_large(path, asked["size"]) else "regular"
            answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            answers.append(answer | ({"oid": there[path].blob_id} if path in there else {}))
        self._answer(200, {"files": answers})

    def lfs_batch(self, repo_id: str) -> None:
        self._writable(repo_id)
        repo = self._repo(repo_id)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            known = asked["oid"] in repo.stored
            href = f"{self.server.url}/lfs/{repo_id}/{asked['oid']}"
            objects.append(dict(asked) if known else asked | {"actions": {"upload": {"href": href}}})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, repo_id: str, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "the digest does not fit")
        self.server.repos[repo_id].stored[oid] = self.body
        self._answer(200, {})

    def lfs_duplicate(self, repo_id: str) -> None:
        source, asked = self._repo(repo_id), json.loads(self.body)
        self._writable(asked["target"]["name"])
        target = self._repo(asked["target"]["name"])
        for file in asked["files"]:
            target.stored[file["sha256"]] = source.stored[file["sha256"]]
        self._answer(200, {"success": [f["sha256"] for f in asked["files"]], "failed": []})

    def commit(self, repo_id: str, revision: str) -> None:
        self._writable(repo_id)
        repo = self._repo(repo_id)
        if revision not in repo.branches:  # such as a tag, or a commit
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = repo.branches[revision]
        files, message = dict(repo.commits[parent]), ""
        for line in self.body.splitlines():
            key, value = (json.loads(line)[name] for name in ("key", "value"))
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, parent):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in repo.stored:
                    raise Refused(400, f"the content of {value['path']} was never uploaded")
                files[value["path"]] = File(repo.stored[value["oid"]], True)
            elif key == "deletedFile":
                files.pop(value["path"])
        request = None
        if self.query.get("create_pr") == ["1"]:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.branches)
            repo.pull_requests[number] = message
            request = f"{self.server.url}/{repo_id}/discussions/{number}"
            revision = f"refs/pr/{number}"
        sha = repo.commit(files, revision, message)
        url = f"{self.server.url}/{repo_id}/commit/{sha}"
        found = {"success": True, "commitOid": sha, "commitUrl": url}
        self._answer(200, found | ({"pullRequestUrl": request} if request else {}))

    def resolve(self, repo_id: str, rest: str) -> None:
        repo = self._repo(repo_id)
        # A revision may have slashes in it, as refs/pr/1 has.
        cuts = [i for i, c in enumerate(rest) if c == "/"]
        revision, path = next(
            ((rest[:i], rest[i + 1 :]) for i in cuts if repo.resolve(rest[:i])), (rest.split("/")[0], "")
        )
        sha = self._sha(repo, revision)
        file = repo.commits[sha].get(path)
        if file is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        etag = file.sha256 if file.large else file.blob_id
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if file.large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(file.content))}
        self._answer(200, file.content, headers)


def _ref(ref: str, sha: str) -> dict[str, str]:
    return {"name": ref.removeprefix("refs/heads/").removeprefix("refs/tags/"), "ref": ref, "targetCommit": sha}


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (("GET",), "/api/whoami-v2", _Handler.whoami),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate_yaml),
    (("GET",), f"/api/models/{_ID}", _Handler.info),
    (("GET",), f"/api/models/{_ID}/revision/(.+)", _Handler.info),
    (("GET",), f"/api/models/{_ID}/tree/(refs/pr/\\d+|[^/]+)(?:/(.+))?", _Handler.tree),
    (("POST",), f"/api/models/{_ID}/paths-info/(.+)", _Handler.paths_info),
    (("GET",), f"/api/models/{_ID}/commits/(.+)", _Handler.commits),
    (("GET",), f"/api/models/{_ID}/refs", _Handler.refs),
    (("GET",), f"/api/models/{_ID}/discussions", _Handler.discussions),
    (("POST",), f"/api/models/{_ID}/branch/(.+)", _Handler.branch),
    (("DELETE",), f"/api/models/{_ID}/branch/(.+)", _Handler.delete_branch),
    (("POST",), f"/api/models/{_ID}/tag/(.+)", _Handler.tag),
    (("POST",), f"/api/models/{_ID}/preupload/(.+)", _Handler.preupload),
    (("POST",), f"/api/models/{_ID}/commit/(.+)", _Handler.commit),
    (("POST",), f"/api/models/{_ID}/lfs-files/duplicate", _Handler.lfs_duplicate),
    (("POST",), f"/{_ID}.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), f"/lfs/{_ID}/([0-9a-f]+)", _Handler.lfs_put),
    (("GET", "HEAD"), f"/{_ID}/resolve/(.+)", _Handler.resolve),
]
