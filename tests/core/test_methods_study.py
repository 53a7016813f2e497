"""The study of methods: what it chooses, that it goes on where it stopped, what its page says."""

import json
import sys
from itertools import product

import methods_study
import pytest
import torch
from methods_study import CORES, Answers, chosen, grid, setting

from hf_zspa import MmtokPruner, WeightedPruner

pytestmark = pytest.mark.slow

SETTINGS = [CORES[0], CORES[2], setting("weighted", relevance_weight=0.75, pooling="none", centre=True)]
SETTINGS += [setting("dpp", relevance_weight=1.0, pooling="mean", centre=False), setting("mmtok", centre=False)]


class Made:
    """Answers made up: the questions of the kind "a" are right with settings of these names, those of "b" else."""

    kinds = ["a", "a", "b", "b"]

    def __init__(self, *names):
        self.names = names

    def __call__(self, keep, one):
        return torch.tensor([one.name in self.names] * 2 + [one.name not in self.names] + [False])


def test_no_two_settings_have_one_name_and_each_says_what_it_is():
    names = [one.name for one in grid()]
    assert len(set(names)) == len(names)
    assert SETTINGS[2].name == "weighted, weight 0.75, pooling none, centred"
    assert SETTINGS[1].name == "zspa, core 0.2" and setting("random").name == "random"
    assert {one.method for one in grid()} == set(methods_study.TUNED)


def test_the_setting_with_the_best_average_over_kinds_is_chosen():
    first, second, *_ = SETTINGS
    tuning = {"one": Made(second.name), "other": Made(second.name)}
    assert chosen(tuning, [first, second]) == second  # 100 and 0, against 0 and 50
    assert chosen(tuning, [first, second], ("b",)) == first
    assert chosen({"one": Made()}, [first, second]) == first  # of equals


def test_a_setting_ahead_of_every_core_ratio_and_behind_no_formula_is_found_first(monkeypatch):
    good, bad, formula = setting("dpp", relevance_weight=1.0), SETTINGS[2], methods_study.PUBLISHED["MMTok's formula"]
    monkeypatch.setattr(methods_study, "grid", lambda: iter([*CORES, bad, good]))

    class Many:
        kinds = ["a"] * 40

        def __call__(self, keep, one):
            right = {good: 40, formula: 30 if keep == 0.1 else 0, CORES[3]: 10, bad: 20}.get(one, 0)
            return torch.arange(40) < right

    rows = methods_study.search({"one": Many(), "other": Many()})
    assert [(row["setting"], row["ahead"], row["behind"]) for row in rows] == [(good, 6, 0), (bad, 6, 2)]
    assert [row["average"] for row in rows] == [100, 50]


def test_answers_are_kept_and_not_asked_for_again(tmp_path, monkeypatch):
    asked = Answers("embedded", 3, 0, tmp_path)
    right = asked(0.1, SETTINGS[1])
    again = Answers("embedded", 3, 0, tmp_path)
    monkeypatch.setattr(Answers, "exam", None)
    assert torch.equal(again(0.1, SETTINGS[1]), right) and again.kinds == asked.kinds
    with pytest.raises(AttributeError):
        again(0.1, SETTINGS[0])


@pytest.mark.parametrize(("model", "tau"), [("embedded", 0.02), ("embedded-qwen", 0.01)])
def test_mmtok_has_the_temperature_of_the_models_family(tmp_path, monkeypatch, model, tau):
    answers, made = Answers(model, 1, 0, tmp_path), []
    monkeypatch.setattr(answers.exam, "kept", made.append)
    monkeypatch.setattr(answers.exam, "right", lambda kept: torch.ones(1))
    answers(0.1, setting("mmtok", centre=True))
    answers(0.1, SETTINGS[2])
    assert made == [MmtokPruner(0.1, tau_text=tau, centre=True), WeightedPruner(0.1, 0.75, "none", True)]


def test_a_study_from_the_questions_to_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(methods_study, "grid", lambda: iter(SETTINGS))
    monkeypatch.setattr(methods_study, "CORES", SETTINGS[:2])
    monkeypatch.setattr(methods_study, "FIXED", SETTINGS[:2])
    monkeypatch.setattr(methods_study, "KEEP_RATIOS", (0.1,))
    arguments = (
        f"study --work {tmp_path} --models embedded --per-kind 4 --tuning-per-kind 3 --output {tmp_path}/methods.json"
    )
    monkeypatch.setattr(sys, "argv", arguments.split())
    methods_study.main()
    results = json.loads((tmp_path / "methods.json").read_text())
    assert [row["method"] for row in results["chosen"]] == list(methods_study.TUNED)
    assert results["chosen"][1]["all"] == SETTINGS[2].name
    judged = {row["name"]: row for row in results["judged"]}
    assert judged["all tokens"]["average"] == 100 and set(judged) == {"all tokens", *(one.name for one in SETTINGS)}
    assert judged[SETTINGS[1].name]["minus"]["the default"] == [0, 0, 0]
    assert {row["setting"] for row in results["searched"]} == {SETTINGS[2].name, SETTINGS[3].name}
    assert {(row["tuned_on"], row["method"]) for row in results["transfer"]} == {
        *product(("first", "second"), methods_study.TUNED)
    }
    assert all(row["minus"]["the default"][1] <= row["minus"]["the default"][2] for row in results["transfer"])
    page = (tmp_path / "methods.md").read_text()
    assert f"| {SETTINGS[2].name} |" in page and "minus CDPruner's formula" in page


def test_what_is_judged_is_never_what_was_tuned_on():
    assert methods_study.TUNING_SEED > 100_000  # the scenes that judge begin at 0
    kinds = [kind for half in methods_study.HALVES.values() for kind in half]
    assert len(kinds) == len(set(kinds))
    for _, domain in methods_study.MODELS.values():
        assert set(domain.kinds) <= set(kinds)
