"""FastV's rule on the embedded models: with all tokens kept it is the exam, and what it dropped is gone."""

import fastv
import pytest
import torch

from hf_zspa.scenes.heldout import collect
from hf_zspa.scenes.training.answering import Exam


@pytest.mark.parametrize("name", fastv.MODELS)
def test_attention_chooses_what_the_third_layer_sees(name, monkeypatch):
    checkpoint, domain = fastv.MODELS[name]
    exam = Exam(checkpoint, collect(2, domain=domain))
    expected = exam.right()
    attention, seen = fastv.Attention(exam), []
    layers = attention._layers

    def watched(states, positions, some):
        out, weights = layers(states, positions, some)
        seen.append((states, positions, weights))
        return out, weights

    monkeypatch.setattr(attention, "_layers", watched)
    for question, right in enumerate(expected.tolist()):
        seen.clear()
        assert attention.right(question, (1.0, 0.1))[0] == right
        (_, positions, weights), (full, _, _), (packed, stay, _) = seen
        first, n = len(exam.before), len(exam.visual[exam.image_of[question]])
        received = weights[:, -len(exam.answers[question])].mean(0)[first : first + n]  # of the prompt's last token
        kept = received.topk(int(0.1 * n + 0.5)).indices.sort().values
        columns = torch.cat([torch.arange(first), first + kept, torch.arange(first + n, len(full))])
        assert torch.equal(packed, full[columns]) and torch.equal(stay, positions[:, columns])
