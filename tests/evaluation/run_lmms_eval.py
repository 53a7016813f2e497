"""lmms-eval's command line, after the shim that lets torchvision be imported where its operators do not load. To be
quick it knows no tasks but those of `--include_path`, and of the embedded ones it draws few questions.
"""

from functools import partial

import tiny  # noqa: F401
from lmms_eval import __main__

from hf_zspa.evaluation import scenes_task

__main__.TaskManager = partial(__main__.TaskManager, include_defaults=False)
scenes_task.QUESTIONS = 16

if __name__ == "__main__":
    __main__.cli_evaluate()
