"""A small sweep to ask for."""

from hf_zspa.evaluation.command import Request

TASKS = ["zspa_scenes_attribute", "zspa_scenes_chart"]


def request(folder, checkpoint="embedded", **arguments):
    given = {"tasks": TASKS, "methods": ["original", "divprune", "zspa"], "keep_ratios": [0.1], "limit": 10}
    return Request(checkpoint, folder, **(given | arguments))
