"""What a release consists of, and that its wheel works where nothing else of this project is."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from build.util import project_wheel_metadata
from PIL import Image

from hf_zspa.version import __version__

ROOT = Path(__file__).parents[2]


def run(*command: object, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def torch_here(name: str = "torch") -> Iterator[Path]:
    """The files and folders of the installed torch, and of what nothing but torch needs."""
    found = metadata.distribution(name)
    for place in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(found.locate_file(place)))
    for line in found.requires or []:
        needed = re.match(r"[\w.-]+", line)[0]
        if needed.startswith(("nvidia-", "cuda-", "triton")):
            with contextlib.suppress(metadata.PackageNotFoundError):
                yield from torch_here(needed)


def workflow_of_a_release() -> dict:
    return yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))


def test_both_are_what_an_index_accepts(release):
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", *release)
    assert [path.name for path in release] == [
        f"hf_zspa-{__version__}-py3-none-any.whl",
        f"hf_zspa-{__version__}.tar.gz",
    ]


def test_the_wheel_holds_the_package_and_the_source_all_that_its_tests_need(release):
    wheel, source = release
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in inside} == {"hf_zspa", f"hf_zspa-{__version__}.dist-info"}
    # From here a card takes what installs the package.
    facts = zipfile.ZipFile(wheel).read(f"hf_zspa-{__version__}.dist-info/METADATA").decode()
    addresses = re.findall('^Repository = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall("^Project-URL: Repository, (.*)$", facts, re.MULTILINE) == addresses
    tracked = run("git", "ls-files", "hf_zspa", cwd=ROOT).split()
    training = {name for name in tracked if name.startswith("hf_zspa/scenes/training/")}
    assert training and set(tracked) - set(inside) == training
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*tracked, *run("git", "ls-files", "tests", cwd=ROOT).split()} <= names
    needed = {
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "CITATION.cff",
        "Makefile",
        "noxfile.py",
        "mkdocs.yml",
        ".gitattributes",
    }
    assert needed | {"tests/pairs.py", "docs/index.md", "configs/qwen2.5-vl.json"} <= names


def test_the_workflow_of_a_release_publishes_only_what_was_tested_and_by_no_token():
    workflow = workflow_of_a_release()
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    assert jobs["publish"]["needs"] == "test" and jobs["test"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"} and "secrets" not in str(workflow)
    (check,) = [step for step in jobs["build"]["steps"] if step.get("name") == "The tag is the version"]
    code = re.search('python -c "(.*)"$', check["run"])[1]
    for tag, status in ((f"v{__version__}", 0), ("v0.0.9", 1)):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"TAG": tag}, cwd=ROOT, capture_output=True
        )
        assert done.returncode == status
    commands = {step["run"].split()[1] for step in jobs["test"]["steps"] if step.get("run", "").startswith("make ")}
    assert commands <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) and commands


def test_the_source_passes_where_the_workflow_of_a_release_tests_it(release, tmp_path):
    """The tests of what belongs to the project, which a source distribution has more and less of than a clone."""
    (tmp_path / "dist").mkdir()
    shutil.copy(release[1], tmp_path / "dist")
    for step in workflow_of_a_release()["jobs"]["test"]["steps"]:
        if not step.get("run", "make").startswith("make"):
            run("bash", "-e", "-c", step["run"], cwd=tmp_path / step.get("working-directory", ""))
    tests = ("tests/core/test_house.py", *(f"tests/docs/test_{name}.py" for name in ("links", "citation")))
    run(sys.executable, "-m", "pytest", "-q", *tests, cwd=tmp_path / "source")


def test_the_page_on_an_index_has_no_link_that_only_the_repository_has(release, tmp_path):
    with tarfile.open(release[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    (source / "PKG-INFO").unlink()  # which hatch would take the page from
    project = (source / "pyproject.toml").read_text(encoding="utf-8")
    address = "https://example.org/here"
    project = re.sub(r"^\[project\.urls\][^\[]*", "", project, flags=re.MULTILINE)
    (source / "pyproject.toml").write_text(f'{project}\n[project.urls]\nRepository = "{address}"\n', encoding="utf-8")
    for version, commit in (("0.3.0.dev0", "HEAD"), ("0.3.0", "v0.3.0")):
        (source / "hf_zspa" / "version.py").write_text(f'__version__ = "{version}"\n')
        page = project_wheel_metadata(source).get_payload()
        assert not re.findall(r'\]\((?!https://)[^)]*\)|(?:src|href)="(?!https://)[^"]*"', page)
        for leads in ("raw/{}/docs/images/demo.png", "blob/{}/SECURITY.md", "blob/{}/README.md#what-is-supported"):
            assert f"]({address}/{leads.format(commit)})" in page


def test_a_release_says_where_it_is():
    """Only what is in development may be without an address, and not on PyPI yet."""
    pages = [ROOT / "README.md", *(page for kind in ("md", "ipynb") for page in (ROOT / "docs").rglob(f"*.{kind}"))]
    waiting = [page.name for page in pages if "not on PyPI yet" in " ".join(page.read_text(encoding="utf-8").split())]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    has_address = re.search('^Repository = "https://', project, re.MULTILINE)
    assert ".dev" in __version__ or (has_address and not waiting), "CONTRIBUTING.md: A release"


def test_a_clone_on_a_system_with_other_line_ends_has_the_same_bytes(tmp_path):
    """The digests of a checkpoint's code are of bytes."""
    run("git", "clone", "--quiet", "-c", "core.autocrlf=true", ROOT, tmp_path / "clone")
    for name in run("git", "ls-files", "hf_zspa/remote_code", "hf_zspa/scenes/checkpoint", cwd=ROOT).split():
        content = (tmp_path / "clone" / name).read_bytes()
        assert content.replace(b"\r\n", b"\n") == content or name.endswith((".png", ".safetensors")), name


def test_the_wheels_demo_runs_in_an_empty_environment(release, tmp_path):
    venv.create(tmp_path / "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    for place in set(torch_here()):  # to install it would take longer than all else
        (Path(site) / place.name).symlink_to(place)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", release[0], env=clean)
    where = run(python, "-c", "import hf_zspa; print(hf_zspa.__file__)", cwd=tmp_path, env=clean)
    assert where.startswith(str(tmp_path))
    command = tmp_path / "fresh" / "bin" / "hf-zspa"
    said = run(command, "demo", "--output", "picture.png", cwd=tmp_path, env=clean)
    assert "below" in said and Image.open(tmp_path / "picture.png").width > 500
    assert "and no other" in run(command, "verify", "embedded", cwd=tmp_path, env=clean)
    short = ("--limit", "1", "--seconds", "0.1", "--new-tokens", "2", "--output", "bench")
    run(command, "bench", "embedded", *short, cwd=tmp_path, env=clean)
    assert (tmp_path / "bench" / "results.json").is_file()
