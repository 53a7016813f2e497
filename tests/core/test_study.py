"""The study of settings: its rules for the size of the core by hand, and what it compares with what."""

from types import SimpleNamespace

import pytest
import study
import torch
from core_rules import (
    Rule,
    StudiedPruner,
    above_unrelated,
    by_surprise,
    half_when_crowded,
    near_best,
    outlier_share,
    outliers,
    share,
)
from study import TUNING_KINDS, UNRELATED, compare, search_rule, tuning_questions, unrelated_prompts
from study_report import markdown
from transformers import AutoModelForImageTextToText

from hf_zspa import MmtokPruner, ZspaPruner, select_tokens
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.pruners.random_subset import RandomPruner
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.scenes.domains import SCENES
from hf_zspa.scenes.heldout import collect
from hf_zspa.scenes.questions import KINDS
from hf_zspa.scenes.training.answering import Exam

pytestmark = pytest.mark.slow

SCORES = torch.tensor([0.0] * 17 + [0.8, 0.9, 1.0])
NONE = SCORES[:, None]


def test_rules_of_one_image():
    assert share(0.5)(SCORES, NONE, 7) == 4
    assert outliers(1.0)(SCORES, NONE, 10) == 3 and outliers(4.0)(SCORES, NONE, 10) == 0
    assert near_best(0.95)(SCORES, NONE, 10) == 1
    assert outlier_share(1.0)(SCORES, NONE, 10) == 3 and outlier_share(1.0)(SCORES, NONE, 2) == 1
    assert half_when_crowded(1.0)(SCORES, NONE, 6) == 3 and half_when_crowded(1.0)(SCORES, NONE, 5) == 0


def test_rules_that_compare_with_unrelated_prompts():
    unrelated = torch.zeros(20, 4)
    unrelated[3] = torch.tensor([0.2, 0.4, 0.6, 0.85])
    assert above_unrelated(1.0)(SCORES, unrelated, 10) == 2
    assert above_unrelated(0.0)(SCORES, unrelated, 10) == 3
    assert by_surprise(1.0)(SCORES, unrelated, 10) == 5
    assert by_surprise(1.0)(SCORES * 0.1, unrelated, 10) == 0


def test_a_fixed_share_is_the_method_itself():
    visual, prompt = torch.randn(60, 16), torch.randn(3, 16)
    for core in (0.0, 0.4, 1.0):
        pruner = StudiedPruner(0.25, share(core), unrelated=torch.randn(5, 16))
        expected = select_tokens(visual, prompt, keep_ratio=0.25, core_ratio=core)
        assert torch.equal(pruner([visual], [prompt])[0], expected)


def test_excess_takes_off_what_a_token_has_for_every_prompt():
    generator = torch.Generator().manual_seed(0)
    common, own = torch.randn(16, generator=generator), torch.randn(16, generator=generator)
    visual = torch.stack([common, own, *torch.randn(8, 16, generator=generator)])
    prompt, unrelated = (3 * common + own)[None], common[None].expand(4, -1)
    chosen = [StudiedPruner(0.1, share(1.0), unrelated=unrelated, excess=excess) for excess in (False, True)]
    assert [pruner([visual], [prompt])[0].tolist() for pruner in chosen] == [[0], [1]]


def test_a_prompt_is_not_compared_with_one_of_the_same_words():
    generator = torch.Generator().manual_seed(0)
    words, others = torch.randn(5, 16, generator=generator), torch.randn(6, 16, generator=generator)
    same = words[torch.randperm(5, generator=generator)].mean(0, keepdim=True)  # equal but for rounding
    visual = torch.randn(40, 16, generator=generator)
    seen = []

    def watch(scores, unrelated, budget):
        seen.append(unrelated.shape[1])
        return int((scores > unrelated.amax()).sum())

    with_it, without = (
        StudiedPruner(0.25, watch, unrelated=u, excess=True) for u in (torch.cat([others, same]), others)
    )
    assert torch.equal(with_it([visual], [words])[0], without([visual], [words])[0]) and seen == [6, 6]


def test_centring_takes_the_mean_visual_token_off_where_it_is_told_to():
    generator = torch.Generator().manual_seed(1)
    visual, prompt = torch.randn(40, 16, generator=generator) + 2, torch.randn(3, 16, generator=generator) + 1
    moved = visual - visual.mean(0)

    def kept(centre, core):
        return StudiedPruner(0.25, share(core), centre)([visual], [prompt])[0]

    def method(tokens, core):
        return select_tokens(tokens, prompt, keep_ratio=0.25, core_ratio=core)

    for core in (0.0, 0.4, 1.0):
        assert torch.equal(kept("neither", core), method(visual, core))
        assert torch.equal(kept("both", core), method(moved, core))
    assert torch.equal(kept("relevance", 1.0), method(moved, 1.0)) and torch.equal(
        kept("relevance", 0), method(visual, 0)
    )
    assert torch.equal(kept("diversity", 0), method(moved, 0)) and torch.equal(
        kept("diversity", 1.0), method(visual, 1.0)
    )
    assert len({tuple(kept(centre, 0.4).tolist()) for centre in ("neither", "relevance", "diversity", "both")}) == 4


@pytest.fixture(scope="module")
def exam():
    return Exam(CHECKPOINT, collect(per_kind=20))


@pytest.fixture(scope="module")
def tuning():
    return Exam(CHECKPOINT, tuning_questions(per_kind=20, domain=SCENES))


def test_unrelated_prompts_are_of_the_kinds_that_tune_and_no_two_say_the_same(exam, tuning):
    assert set(tuning.kinds) == set(TUNING_KINDS)
    for asked in (exam, tuning):  # whatever else there is
        found = unrelated_prompts(asked)
        assert found.shape == (UNRELATED, 160)
        assert torch.pdist(found).min() > 1e-3
        for place, kind in enumerate(asked.kinds):
            near = (found - asked.prompts["query"][place].mean(0)).norm(dim=1).min()
            assert kind in TUNING_KINDS or near > 1e-3, asked.texts[place]


def test_random_draws_for_each_question_of_an_exam_anew(exam):
    charts = [i for i, kind in enumerate(exam.kinds) if kind == "chart"]
    assert len({exam.texts[i] for i in charts}) == 2
    kept = exam.kept(RandomPruner(0.1))
    assert len({tuple(kept[i].tolist()) for i in charts}) == len(charts)


def test_an_exam_with_compact_positions_marks_what_such_a_checkpoint_generates(exam):
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded"), trust_remote_code=True)
    model.config.zspa_position_ids = "compact"
    heldout = collect(per_kind=20)
    kept = exam.kept(ZspaPruner(0.1))
    compact = exam.right(kept, compact=True)
    assert not torch.equal(compact, exam.right(kept))
    for index, (image, question) in enumerate(heldout.questions):
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
        prompt = exam.processor.apply_chat_template(turn, add_generation_prompt=True)
        inputs = exam.processor(images=heldout.images[image], text=prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=4, do_sample=False, zspa_keep_ratio=0.1)
        answer = exam.processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (answer == question.answer) == bool(compact[index])


def test_variants_are_compared_with_the_default_both_ends_and_the_best_core_ratio(exam, monkeypatch):
    monkeypatch.setattr(study, "KEEP_RATIOS", (0.1,))
    rows = {(row["topic"], row["name"]): row for row in compare(exam)}
    cores = {name: row for (topic, name), row in rows.items() if topic == "core ratio"}
    best = max(cores.values(), key=lambda row: row["average"])["name"]
    for row in rows.values():
        assert list(row["minus"]) == list(dict.fromkeys(["core 0.2", "core 0.0", "core 1.0", best]))
        for name, (value, low, high) in row["minus"].items():
            assert value == pytest.approx(row["average"] - cores[name]["average"]) and low <= value <= high
    assert cores["core 0.0"]["minus"]["core 0.0"] == [0, 0, 0]


def test_mmtok_has_the_temperature_of_the_models_family(monkeypatch):
    made = []
    asked = SimpleNamespace(
        family=SimpleNamespace(varied=True), model=SimpleNamespace(config=SimpleNamespace(model_type="qwen2_5_vl")),
        kinds=[*KINDS], kept=lambda pruner, scope: made.append(pruner),
        right=lambda kept, compact: torch.ones(len(KINDS)),
    )  # fmt: skip
    monkeypatch.setattr(study, "KEEP_RATIOS", (0.1,))
    compare(asked)
    assert MmtokPruner(0.1, tau_text=0.01) in made and MmtokPruner(0.1) not in made


def test_a_rule_is_measured_against_the_best_fixed_ratio_of_each_kind(exam, tuning, monkeypatch):
    monkeypatch.setattr(study, "RULE_KEEP_RATIOS", (0.1,))
    monkeypatch.setattr(study, "RULES", {"all": Rule(share(1.0)), "none": Rule(share(0.0))})
    rows = {row["rule"]: row for row in search_rule(tuning, exam)}
    fixed = [row for row in rows.values() if row["fixed"]]
    best = max(fixed, key=lambda row: row["deciding"]["average"])
    assert {row["best_fixed"] for row in rows.values()} == {best["rule"]}
    for name, same in (("all", "core 1.0"), ("none", "core 0.0")):
        assert {**rows[name], "rule": same, "fixed": True} == rows[same]
    lost = best["deciding"]["average"] - rows["all"]["deciding"]["average"]
    assert rows["all"]["minus_best_fixed"][0] == pytest.approx(-lost)
    assert "relation" in rows["all"]["behind"] and "relation" not in rows["none"]["behind"]


def test_the_report_of_a_study_names_the_rules_that_would_do():
    def summary(average):
        return {"kinds": dict.fromkeys(KINDS, average), "average": average, "interval": [average - 1, average + 2]}

    def rule(name, fixed, lead, behind):
        parts = {"tuning": summary(50.0), "deciding": summary(60.0), "best_fixed": "core 0.1"}
        return {"rule": name, "fixed": fixed, "keep_ratio": 0.1, **parts, "minus_best_fixed": lead, "behind": behind}

    results = {
        "family": "llava", "date": "2026-01-02", "torch": "2", "transformers": "5", "per_kind": 9,
        "variants": [{"topic": "pooling", "name": "max", "keep_ratio": 0.1, **summary(70.0),
                      "minus": {"core 0.2": [1.0, 0.5, 1.5], "core 0.0": [-1.0, -3.0, 1.0]}}],
        "core_rules": [rule("core 0.1", True, [0, 0, 0], []), rule("good", False, [2.0, 1.0, 3.0], []),
                       rule("uneven", False, [2.0, 1.0, 3.0], ["chart"]), rule("equal", False, [2.0, -1.0, 5.0], [])],
    }  # fmt: skip
    text = markdown(results)
    assert r"| 70.0 ± 1.5 | +1.0\* (+0.5 to +1.5) | -1.0 (-3.0 to +1.0) |" in text
    assert r"| uneven | 50.0 | 60.0 ± 1.5 |" in text and r"| +2.0\* (+1.0 to +3.0) | chart |" in text
    assert text.rstrip().endswith("clearly ahead of the best fixed ratio on the other three: good.")
