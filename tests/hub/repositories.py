"""What a Hub keeps: repositories with branches, tags and commits, and the files in them."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

LARGE = 20_000  # bytes from which a file is large; safetensors always are


def is_large(name: str, size: int) -> bool:
    return size >= LARGE or name.endswith(".safetensors")


@dataclass
class File:
    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob_id(self) -> str:
        shown = self.content
        if self.large:
            shown = f"version https://git-lfs\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(shown) + shown).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.blob_id}
        if self.large:
            found["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
            found["xetHash"] = self.sha256[::-1]
        return found


@dataclass
class Repo:
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by digest, committed or not
    pull_requests: dict[int, str] = field(default_factory=dict)  # titles of those that are open; refs/pr/1 is a branch

    def resolve(self, revision: str) -> str | None:
        revision = revision.removeprefix("refs/heads/")
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )

    def commit(self, files: dict[str, File], branch: str, message: str) -> str:
        seed = f"{len(self.commits)} {message} {sorted((p, f.blob_id) for p, f in files.items())}"
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[sha], self.messages[sha], self.parents[sha] = files, message, self.branches.get(branch)
        self.branches[branch] = sha
        return sha
