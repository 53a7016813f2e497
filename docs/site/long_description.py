"""The project's page on PyPI: README.md, with links into the repository, of which nothing is there.

`pyproject.toml` names this file as a hook of hatch.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_START = re.compile(r"(?P<text>!\[[^\]]*\]\(|\]\()(?!\w+:)(?P<anchor>#?)")  # of a relative link, or of a picture


class LongDescription(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        """Links lead to the tag of the version; in development, which has none, to the newest commit. They stay as they
        are while the repository has no address."""
        page = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        commit = "HEAD" if ".dev" in metadata["version"] else f"v{metadata['version']}"

        def absolute(found: re.Match[str]) -> str:
            kind = "raw" if found["text"].startswith("!") else "blob"
            return f"{found['text']}{repository}/{kind}/{commit}/" + ("README.md#" if found["anchor"] else "")

        text = _START.sub(absolute, page) if repository else page
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
