"""The version, what it was tested with, and what installs it: the documentation, the cards and the tests go by it."""

__version__ = "0.2.0.dev0"
TESTED_TRANSFORMERS = ("4.57.6", "5.0.0", "5.10.4", "5.16.1", "5.19.0", "5.23.0", "5.24.0")  # before a release
TESTED_AT_EVERY_CHANGE = ("4.57.6", "5.16.1", "5.24.0")  # and 5.19.0 as what vLLM has to equal


def install_command(version: str = __version__, extra: str = "") -> str:
    """The command that installs a version, with an `extra` of pyproject.toml if one is named.

    Where the address of the repository is not known, as of a folder that is only on the path, it is for a checkout of
    the version.
    """
    required = requirement(version, extra)
    if " @ " in required:
        return f'pip install "{required}"'
    here = f"'.[{extra}]'" if extra else "."
    return f"pip install {here} # in a checkout of hf_zspa {version}"


def requirement(version: str = __version__, extra: str = "") -> str:
    """What a file of requirements has for a version: the repository, whose address is `Repository` in pyproject.toml;
    the version alone where that is not known. A version in development has no tag, and is what the repository holds.
    """
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("hf-zspa").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    named = dict(url.split(", ", 1) for url in urls)
    name = f"hf-zspa[{extra}]" if extra else "hf-zspa"
    tag = "" if ".dev" in version else f"@v{version}"
    return f"{name} @ git+{named['Repository']}{tag}" if "Repository" in named else f"{name}=={version}"
