"""Runs transformers' own tests of a family on our classes in place of the stock ones, and says which end differently.

    pip install parameterized httpx
    git clone --depth 1 --branch v5.24.0 https://github.com/huggingface/transformers
    python tests/stock_suite.py transformers llava qwen3_vl --keep 1.0 0.999 0.5

The clone's version is the installed one's. The suites run once per keep ratio, each time in a process of its own with
the same random numbers, and what does not pass runs once more with the stock classes. Tests that need the Hub are left
out, and slow ones and those for GPUs skip themselves. What is compiled is captured as a graph, not made into C++. The
exit status is 1 where a test that passes with the stock classes does not with ours at keep ratio 1.0, were it only
skipped.
"""

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch
import torchvision_operators  # noqa: F401  lets torchvision be imported later
import transformers.utils

HERE = Path(__file__).parent
SETTINGS = "STOCK_SUITE"  # the environment variable that tells pytest's process which classes to test
NEEDS_THE_HUB = "not Integration and not pipeline"
WORST_FIRST = ("failed", "skipped", "xpassed", "xfailed", "passed")  # of a test with several reports
outcomes: dict[str, tuple[str, str]] = {}
replaced: dict[str, type] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a clone of transformers; tests and utils are enough")
    parser.add_argument("families", nargs="+", metavar="family", help="llava, llava_next, qwen2_5_vl, …")
    parser.add_argument("--keep", type=float, nargs="+", default=[1.0], metavar="RATIO", help="zspa_keep_ratio of ours")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="of the tests those that pytest's -k selects")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here, too")
    arguments = parser.parse_args()
    files = suites(arguments.checkout, arguments.families)
    selected = f"({NEEDS_THE_HUB}) and ({arguments.only})" if arguments.only else NEEDS_THE_HUB
    ours = {f"{keep:g}": run(arguments.checkout, [*files, "-k", selected], arguments.families, keep)
            for keep in arguments.keep}  # fmt: skip
    others = {test for results in ours.values() for test, (outcome, _) in results.items() if outcome != "passed"}
    found = compared(arguments.families, ours, run(arguments.checkout, sorted(others), [], 1.0) if others else {})
    if arguments.json:
        report = json.dumps({transformers.__version__: found}, indent=1)
        arguments.json.write_text(report + "\n", encoding="utf-8")
    for family, by_keep in found.items():
        for keep, result in by_keep.items():
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result["outcomes"].items()))
            print(f"{family} at {keep}: {counts}; {len(result['unlike'])} unlike stock")
            for test, (before, after, why) in result["unlike"].items():
                print(f"  {test}: {before} -> {after} {why}")
    at_one = [result for by_keep in found.values() for keep, result in by_keep.items() if keep == "1"]
    return int(any(before == "passed" for result in at_one for before, *_ in result["unlike"].values()))


def suites(checkout: Path, families: list[str]) -> list[str]:
    """The files of the families' tests, in the clone."""
    found = []
    for family in families:
        folder = checkout / "tests" / "models" / family
        files = [path for kind in ("modeling", "configuration") for path in folder.glob(f"test_{kind}_*.py")]
        if not files:
            raise SystemExit(f"{folder} has no tests of a model: pass a clone of transformers and families of models")
        found += sorted(str(path.relative_to(checkout)) for path in files)
    return found


def run(checkout: Path, tests: list[str], families: list[str], keep: float) -> dict[str, tuple[str, str]]:
    """Per test its outcome and, unless it passed, why; with our classes of `families`."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "outcomes.json")
        settings = json.dumps({"families": families, "keep": keep, "report": str(report)})
        paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        process = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", Path(__file__).stem, "-p", "no:cacheprovider",
             "--disable-warnings", "--noconftest", *tests],
            cwd=checkout, env=os.environ | offline | {SETTINGS: settings, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True, text=True,
        )  # fmt: skip
        if process.returncode not in (0, 1):  # 1: some tests fail
            raise SystemExit(f"{process.stdout}\n{process.stderr}\nthe suite did not run: see above")
        return json.loads(report.read_text(encoding="utf-8"))


def compared(families: list[str], ours: dict[str, dict], stock: dict[str, tuple[str, str]]) -> dict:
    """Family → keep ratio → how the tests end with ours, and those that end otherwise with the stock class."""
    found: dict[str, dict] = {family: {} for family in families}
    for family, by_keep in found.items():
        for keep, results in ours.items():
            of_family = {test: end for test, end in results.items() if f"/{family}/" in test}
            unlike = {
                test.partition("::")[2]: [stock[test][0], *end]
                for test, end in of_family.items() if end[0] != "passed" and end[0] != stock[test][0]
            }  # fmt: skip
            by_keep[keep] = {"outcomes": Counter(outcome for outcome, _ in of_family.values()), "unlike": unlike}
    return found


# What follows are the hooks of pytest's process, where this file is a plug-in.


def pytest_configure() -> None:
    settings = json.loads(os.environ[SETTINGS])
    # The tests would import the clone's source in place of what is installed, and lose the replaced classes with it.
    transformers.utils.direct_transformers_import = lambda *_, **__: transformers
    compile_to_cpp = torch.compile  # takes most of the time, and knows nothing of us: capture the graphs alone
    torch.compile = lambda *given, **options: compile_to_cpp(*given, **options | {"backend": "eager", "mode": None})
    for family in settings["families"]:
        replace_stock_classes(family, settings["keep"])


def replace_stock_classes(family: str, keep: float) -> None:
    """Makes `from transformers import …` and the Auto classes give our generating class, its base model's and its
    config's, under the stock names: by them the suite looks up what a model takes and how old it is."""
    modeling = importlib.import_module(f"hf_zspa.remote_code.modeling_zspa_{family}")
    importlib.import_module("hf_zspa.remote_code.zspa_config").FIELDS["zspa_keep_ratio"] = keep
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    own = (value for value in vars(modeling).values() if getattr(value, "__module__", "") == modeling.__name__)
    ours = next(cls for cls in own if hasattr(cls, "generate"))
    if ours.base_class.images_are != "entries":  # the suite's prompts have nothing between an image's tiles
        ours.base_class.images_are = "runs"
    for cls in (ours, ours.base_class, ours.config_class):
        of = cls.__bases__[-1]
        cls.__name__, cls.__qualname__, cls.__module__ = of.__name__, of.__qualname__, of.__module__
        cls._auto_class = None  # saving would look for the code beside the stock class
        replaced[of.__name__] = cls
        setattr(transformers, of.__name__, cls)
    transformers.AutoConfig.register(ours.config_class.model_type, ours.config_class, exist_ok=True)
    for mapping in vars(auto).values():
        name = isinstance(mapping, auto._LazyAutoMapping) and mapping._model_mapping.get(ours.config_class.model_type)
        if isinstance(name, str):
            mapping.register(ours.config_class, getattr(transformers, name), exist_ok=True)


def pytest_collection_modifyitems(items) -> None:
    modules = {item.module for item in items}
    for name, ours in replaced.items():
        if any(getattr(module, name, ours) is not ours for module in modules):
            raise pytest.UsageError(f"the suite has a stock {name}, not ours")


def pytest_runtest_setup(item) -> None:
    torch.manual_seed(0)
    random.seed(0)
    sys.modules["tests.test_modeling_common"].global_rng.seed(0)


def pytest_runtest_logreport(report) -> None:
    outcome, why = report.outcome, ""
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if outcome == "skipped" else "xpassed"
    elif outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        why = (crash.message if crash else str(report.longrepr[-1])).splitlines()[0]
    before = outcomes.get(report.nodeid, ("passed", ""))
    outcomes[report.nodeid] = min(before, (outcome, why), key=lambda result: WORST_FIRST.index(result[0]))


def pytest_sessionfinish() -> None:
    report = json.loads(os.environ[SETTINGS])["report"]
    Path(report).write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
