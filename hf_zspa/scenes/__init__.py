"""The embedded models, trained from scratch: a small LLaVA and Qwen2.5-VL for scenes, a LLaVA for photographs."""

from pathlib import Path

_HERE = Path(__file__).parent
CHECKPOINT = _HERE / "checkpoint"
QWEN_CHECKPOINT = _HERE / "checkpoint-qwen"
PHOTO_CHECKPOINT = _HERE / "checkpoint-photo"
EXAMPLES = _HERE / "examples"
