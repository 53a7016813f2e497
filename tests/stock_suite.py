"""Runs transformers' own tests of a family on our classes in place of the stock ones, and says which end differently.

    pip install parameterized httpx
    git clone --depth 1 --branch v5.24.0 https://github.com/huggingface/transformers
    python tests/stock_suite.py transformers llava --keep 1.0 0.999 0.5

The clone's version is the installed one's. The suite runs once with the stock classes and once more per keep ratio,
each time in a process of its own, with the same random numbers. Tests that need the Hub are left out, and slow ones and
those for GPUs skip themselves. The exit status is 1 where a test that passes with the stock classes does not with ours
at keep ratio 1.0, were it only skipped.
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
    parser.add_argument("family", help="llava, llava_next, qwen2_5_vl, …")
    parser.add_argument("--keep", type=float, nargs="+", default=[1.0], metavar="RATIO", help="zspa_keep_ratio of ours")
    arguments = parser.parse_args()
    stock = run(arguments.checkout, arguments.family, None)
    print("stock:", summary(stock))
    worse = []
    for keep in arguments.keep:
        ours = run(arguments.checkout, arguments.family, keep)
        differing = [test for test in sorted({*stock, *ours}) if stock.get(test, "-")[0] != ours.get(test, "-")[0]]
        print(f"ours at {keep:g}: {summary(ours)}, {len(differing)} unlike stock")
        for test in differing:
            (before, _), (after, why) = stock.get(test, ("missing", "")), ours.get(test, ("missing", ""))
            print(f"  {test.split('::', 1)[1]}: {before} -> {after} {why}")
        worse += [test for test in differing if keep == 1 and stock.get(test, "-")[0] == "passed"]
    return int(bool(worse))


def run(checkout: Path, family: str, keep: float | None) -> dict[str, tuple[str, str]]:
    """Per test of the family its outcome and, unless it passed, why; with the stock classes where `keep` is None."""
    folder = Path("tests", "models", family)
    files = [
        str(path.relative_to(checkout))
        for kind in ("modeling", "configuration")
        for path in (checkout / folder).glob(f"test_{kind}_*.py")
    ]
    if not files:
        raise SystemExit(f"{checkout / folder} has no tests of a model: pass a clone of transformers and a family")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "outcomes.json")
        settings = json.dumps({"family": family, "keep": keep, "report": str(report)})
        paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        process = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", Path(__file__).stem, "-p", "no:cacheprovider",
             "--disable-warnings", "--noconftest", "-k", NEEDS_THE_HUB, *sorted(files)],
            cwd=checkout, env=os.environ | offline | {SETTINGS: settings, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True, text=True,
        )  # fmt: skip
        if process.returncode not in (0, 1):  # 1: some tests fail
            raise SystemExit(f"{process.stdout}\n{process.stderr}\nthe suite did not run: see above")
        return json.loads(report.read_text(encoding="utf-8"))


def summary(results: dict[str, tuple[str, str]]) -> str:
    counts = Counter(outcome for outcome, _ in results.values())
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(WORST_FIRST) if counts[outcome])


# What follows are the hooks of pytest's process, where this file is a plug-in.


def pytest_configure() -> None:
    settings = json.loads(os.environ[SETTINGS])
    # The tests would import the clone's source in place of what is installed, and lose the replaced classes with it.
    transformers.utils.direct_transformers_import = lambda *_, **__: transformers
    if settings["keep"] is not None:
        replace_stock_classes(settings["family"], settings["keep"])


def replace_stock_classes(family: str, keep: float) -> None:
    """Makes `from transformers import …` and the Auto classes give our generating class and its config, under the stock
    names: by them the suite looks up what a model takes and how old it is."""
    modeling = importlib.import_module(f"hf_zspa.remote_code.modeling_zspa_{family}")
    importlib.import_module("hf_zspa.remote_code.zspa_config").FIELDS["zspa_keep_ratio"] = keep
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    own = (value for value in vars(modeling).values() if getattr(value, "__module__", "") == modeling.__name__)
    ours = next(cls for cls in own if hasattr(cls, "generate"))
    stock = getattr(transformers, ours.__name__.removeprefix("Zspa"))
    replaced.update({stock.__name__: ours, stock.config_class.__name__: ours.config_class})
    for cls, of in ((ours, stock), (ours.config_class, stock.config_class)):
        cls.__name__, cls.__qualname__, cls.__module__ = of.__name__, of.__qualname__, of.__module__
    for name, cls in replaced.items():
        setattr(transformers, name, cls)
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
