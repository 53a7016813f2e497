"""What the task files of this folder name: lmms-eval reads functions from beside the file only.

It runs this file as part of no package, so what is imported has its full name.
"""

from hf_zspa.evaluation.scenes_task import ScenesTask, doc_to_visual

__all__ = ["ScenesTask", "doc_to_visual"]
