"""Where the time of an answer goes: no stage is counted twice, and every family's are told apart."""

from itertools import count

import pytest
import tiny
from pairs import QUESTION, image

from hf_zspa.evaluation import stages
from hf_zspa.evaluation.counting import CountingPruner
from hf_zspa.evaluation.stages import STAGES, StageClock
from hf_zspa.pruners.registry import METHODS

FAMILIES = dict.fromkeys([*tiny.FAMILIES, *tiny.OTHER_FAMILIES])


@pytest.fixture
def ticks(monkeypatch):
    """A clock that goes on by one each time it is read, and all that was read."""
    read = []
    ticks = count()
    monkeypatch.setattr(stages.time, "perf_counter", lambda: read.append(float(next(ticks))) or read[-1])
    return read


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stages_of_every_family_are_told_apart(load, ticks, family):
    pair = load(family)
    inputs = pair.inputs([image(0), QUESTION])
    clock = StageClock(pair.model)

    def answer(**pruning):
        clock.reset()
        ticks.clear()
        with clock("prefill"):
            pair.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False, **pruning)
        assert sum(clock.seconds.values()) == ticks[-1] - ticks[0]
        return [stage for stage in STAGES if clock.seconds[stage]]

    assert answer(zspa_keep_ratio=1.0) == ["vision", "prefill", "decode"]
    counter = CountingPruner(METHODS["zspa"].make(0.25), ["question"], clock)
    counter.expect(inputs["input_ids"], pair.model.config)
    assert answer(visual_token_pruner=counter) == ["vision", "selection", "prefill", "decode"]
    clock.remove()
    assert answer() == ["prefill"]


def test_a_stage_inside_another_is_counted_once_and_so_is_one_that_fails(load, ticks):
    clock = StageClock(load("llava").model)
    with pytest.raises(ZeroDivisionError), clock("inputs"), clock("vision"):
        raise ZeroDivisionError
    with clock("prefill"):
        pass
    assert clock.seconds == dict.fromkeys(STAGES, 0.0) | {"inputs": 2.0, "vision": 1.0, "prefill": 1.0}
    clock.remove()
