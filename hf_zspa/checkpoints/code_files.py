"""The code that travels in a checkpoint: which files, how transformers is sent to them, what they are known by."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import POSITION_IDS
from ..version import __version__
from .families import Family
from .files import json_file, read_json

REMOTE_CODE = Path(__file__).parents[1] / "remote_code"
RELEASED = Path(__file__).with_name("released.json")  # version → file → SHA-256, of what released versions have written
AUTO_CLASSES = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForVision2Seq")

VERSION, DIGESTS = "zspa_version", "zspa_code_sha256"  # entries of config.json


def code_files(family: Family) -> list[Path]:
    """The files of `remote_code/` that a checkpoint of a family holds: its modeling file, then all helpers."""
    return [REMOTE_CODE / f"{family.module}.py", *sorted(REMOTE_CODE.glob("zspa_*.py"))]


def auto_map(family: Family) -> dict[str, str]:
    """What `auto_map` in `config.json` is: every Auto class leads to the one class that generates and prunes."""
    model_class = f"{family.module}.{family.model_class}"
    return {"AutoConfig": f"{family.module}.{family.config_class}"} | dict.fromkeys(AUTO_CLASSES, model_class)


def code_entries(family: Family) -> dict[str, Any]:
    """What `config.json` says of the code of this package beside it."""
    return {
        "architectures": [family.model_class, family.stock], "auto_map": auto_map(family),
        VERSION: __version__, DIGESTS: code_digests(code_files(family)),
    }  # fmt: skip


def allowed_position_ids(family: Family) -> tuple[str, ...]:
    """What `zspa_position_ids` may be, as the family's config class says."""
    return stated(family, "allowed_position_ids", POSITION_IDS[:1])


def stated(family: Family, attribute: str, default: Any) -> Any:
    """What an attribute of the family's classes is; the default where they do not say.

    That is read from the file: to import it is to import transformers' model and torchvision, which writing, checking
    and publishing a checkpoint do without.
    """
    text = (REMOTE_CODE / f"{family.module}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            return ast.literal_eval(node.value)
    return default


def note_release() -> None:
    """Writes the digests of the code of this version into `RELEASED`, by which later versions know it."""
    released = read_json(RELEASED) | {__version__: code_digests(sorted(REMOTE_CODE.glob("*zspa_*.py")))}
    RELEASED.write_bytes(json_file(released))


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def code_digests(paths: Iterable[Path]) -> dict[str, str]:
    """The digest of each file, by its name."""
    return {path.name: digest(path.read_bytes()) for path in paths}
