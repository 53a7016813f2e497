"""What the task files of this folder name: lmms-eval reads functions from beside the file only."""

from ..scenes_task import ScenesTask, doc_to_visual

__all__ = ["ScenesTask", "doc_to_visual"]
