"""The version, what it was tested with, and what installs it: the documentation, the cards and the tests go by it."""

__version__ = "0.2.0.dev0"
TESTED_TRANSFORMERS = ("4.57.6", "5.0.0", "5.10.4", "5.16.1", "5.19.0", "5.23.0", "5.24.0")  # before a release
TESTED_AT_EVERY_CHANGE = ("4.57.6", "5.16.1", "5.24.0")  # and 5.19.0 as what vLLM has to equal


def install_command(version: str | None = None, extra: str = "") -> str:
    """The command that installs a version, by default the one that is installed, with an `extra` of pyproject.toml if
    one is named.

    Where no index has it, and the address of the repository is not known, as of a folder that is only on the path, it
    is for a checkout of the version.
    """
    wanted = version or __version__
    required = requirement(wanted, extra)
    if " @ " in required:
        return f'pip install "{required}"'
    if on_index(wanted):
        named = required if version else required.partition("==")[0]
        return f"pip install '{named}'" if extra else f"pip install {named}"
    here = f"'.[{extra}]'" if extra else "."
    return f"pip install {here} # in a checkout of hf_zspa {wanted}"


def requirement(version: str = __version__, extra: str = "") -> str:
    """What a file of requirements has for a version: its number where an index has it; else the repository, whose
    address is `Repository` in pyproject.toml; the number again where that is not known. A version in development has no
    tag, and is what the repository holds.
    """
    name = f"hf-zspa[{extra}]" if extra else "hf-zspa"
    repository, _ = _installed()
    if repository is None or on_index(version):
        return f"{name}=={version}"
    tag = "" if ".dev" in version else f"@v{version}"
    return f"{name} @ git+{repository}{tag}"


def on_index(version: str = __version__) -> bool:
    """Whether an index such as PyPI has a version: a released one, where the installed one is, and is from there."""
    return ".dev" not in f"{version} {__version__}" and _installed()[1]


def _installed() -> tuple[str | None, bool]:
    """The address of the repository, if it is known, and whether the package is from an index: pip notes where one is
    from that is not.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution("hf-zspa")
    except PackageNotFoundError:
        return None, False
    urls = dict(url.split(", ", 1) for url in found.metadata.get_all("Project-URL") or [])
    return urls.get("Repository"), found.read_text("direct_url.json") is None
