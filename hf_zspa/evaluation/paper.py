"""The numbers of the paper's tables, as published: never ours."""

import csv
from dataclasses import dataclass
from importlib.resources import files

_FILES = {1: "table1_accuracy.csv", 2: "table2_core_ratio.csv", 4: "table4_pooling.csv"}
# How the tables call what lmms-eval calls otherwise.
COLUMNS = {
    "MMMU": "mmmu_val",
    "GQA": "gqa",
    "AI2D": "ai2d",
    "POPE": "pope",
    "TextVQA": "textvqa_val",
    "ChartQA": "chartqa",
}


@dataclass(frozen=True)
class PaperRow:
    """One number; `setting` is a method (Table 1), a core ratio or "original" (2), a pooling or "original" (4)."""

    table: int
    model: str
    column: str
    setting: str
    value: float


def paper_table(table: int) -> list[PaperRow]:
    """The numbers of Table 1, 2 or 4, in their order."""
    rows = []
    for line in _lines(_FILES[table]):
        if table == 1:
            model, setting = line.pop("model"), line.pop("method")
            rows += [PaperRow(1, model, column, setting, float(value)) for column, value in line.items()]
        else:
            column = line.pop("benchmark").partition("_")[0]
            rows += [PaperRow(table, "qwen2.5-vl-7b", column, name, float(value)) for name, value in line.items()]
    return rows


def paper_efficiency() -> list[dict[str, str]]:
    """Table 3: latency in ms, then peak GPU memory in MB of three samples; per method, and `measure` says which."""
    return _lines("table3_efficiency.csv")


def _lines(name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath("paper").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
