"""What may be in a checkpoint, by the names of its files: the one list that `verify`, `push` and `convert` go by.

It lists what may be there, so that a kind of file nobody thought of is refused. What JSON files and code files hold is
looked at elsewhere: in `json_policy` and `verify`.
"""

import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import PurePosixPath

STOCK = (".safetensors", ".json", ".txt", ".jinja", ".model")  # what a stock checkpoint consists of
LEGAL = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING")
DOCUMENTS = (".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp")  # what a model card shows or links to
DATA = (".gguf", ".csv", ".tsv", ".jsonl", ".yaml", ".yml")  # tensors and tables, which transformers leaves alone
TEMPLATES = "additional_chat_templates"  # the folder that transformers saves a processor's further templates in
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
COMPILED = (".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib")

_OF_GIT = (".git", ".gitattributes", ".gitignore")  # the first is a file in a worktree
_OF_TOOLS = (".git", ".cache/huggingface")
_PART_OF_A_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")


def problem_of(name: str, in_folder: bool) -> str | None:
    """Why a file of this name may not be in a checkpoint, and what to do about it; None where it may.

    Python files pass: they are compared by what they hold.

    Args:
        name: with the folders of the checkpoint that it is in, such as `assets/figure.png`.
        in_folder: the checkpoint is a folder on this machine, where installing a package may have compiled its code.
    """
    path, lowered = PurePosixPath(name), name.lower()
    if in_folder and _is_pythons_cache(path):
        return None
    effect = file_effect(name)
    if effect:
        return f"{effect}: it does not belong to a zspa checkpoint"
    if lowered.endswith(PICKLED):
        return "can run code when it is loaded: only safetensors belong into a checkpoint"
    if lowered.endswith(COMPILED):
        return "is compiled code, which cannot be compared"
    if path.name not in _OF_GIT and not is_plain(name):
        return (
            "is hidden, or has a name that not every system reads alike: rename it with letters of ASCII, digits and "
            ". _ + -, or move it away"
        )
    if _is_known(path) or lowered.endswith(".py"):
        return None
    return f"is of a kind that nobody here vouches for: move it away. What may be there is {_KNOWN_IN_WORDS}"


def is_plain(name: str) -> bool:
    """Whether every system takes a name for the same one: ASCII, neither hidden nor with a full stop at the end."""
    return all(_PART_OF_A_NAME.fullmatch(part) for part in name.split("/"))


def is_sent(name: str) -> bool:
    """Whether a file of a checkpoint's folder, other than code, is for `push` to publish."""
    path = PurePosixPath(name)
    if not is_plain(name) or len(path.parts) > 1:
        return is_plain(name) and path.parts[:-1] == (TEMPLATES,) and path.suffix == ".jinja"
    return is_legal(name) or path.suffix.lower() in (*STOCK, *DOCUMENTS)


def is_legal(name: str) -> bool:
    """Whether a file has, by its name, the terms under which a checkpoint may be used."""
    return name.upper().startswith(LEGAL) and PurePosixPath(name).suffix.lower() in ("", ".txt", ".md", ".pdf")


def is_of_tools(folder: str) -> bool:
    """Whether git, or `hf download`, keeps what is its own in this folder of a checkpoint; transformers never reads it,
    and it is neither looked at nor published."""
    return folder in _OF_TOOLS


def file_effect(name: str) -> str | None:
    """What a file does by its name alone, if that leads transformers elsewhere.

    Args:
        name: of a file in a checkpoint, with the folders in it that it is in, such as `custom_generate/generate.py`.
    """
    path = PurePosixPath(taken_for(name))
    if path.name == "adapter_config.json":
        return "makes it an adapter, and has transformers load the model of another repository"
    if fnmatch(path.name, "config.*.json"):
        return "can be read in the place of config.json"
    if "custom_generate" in path.parts:
        return "replaces the code that generates"
    return None


def taken_for(name: str) -> str:
    """The name that some system may take this one for: without case, ligatures, characters that cannot be seen, and
    the full stops and spaces at the end that Windows drops; with a slash for the backslash that parts folders there."""
    folded = unicodedata.normalize("NFKC", name).casefold().replace("\\", "/")
    seen = "".join(character for character in folded if unicodedata.category(character) not in ("Cf", "Cc"))
    return "/".join(part.rstrip(". ") or part for part in seen.split("/"))


def is_another_of(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` names that some system takes a name for, so that one file would replace the other; None where
    there is none, or where both are documents, which nothing loads."""
    alike = taken_for(name)
    if alike.endswith(DOCUMENTS):
        return None
    return next((other for other in known if other != name and taken_for(other) == alike), None)


def shown(text: str) -> str:
    """Text out of a checkpoint as it can be printed: what could move a terminal's cursor, or look like other letters,
    is written as an escape."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


_KNOWN_IN_WORDS = ", ".join(("the code of hf_zspa", "licences", *(f"*{suffix}" for suffix in STOCK + DOCUMENTS + DATA)))


def _is_known(path: PurePosixPath) -> bool:
    return path.name in _OF_GIT or is_legal(path.name) or path.suffix.lower() in (*STOCK, *DOCUMENTS, *DATA)


def _is_pythons_cache(path: PurePosixPath) -> bool:
    """Whether installing a package made the file beside its sources: transformers copies the sources and compiles its
    own."""
    return path.parts[:-1] == ("__pycache__",) and path.suffix == ".pyc"
