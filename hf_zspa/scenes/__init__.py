"""The embedded models: a small LLaVA and a small Qwen2.5-VL trained from scratch on synthetic scenes."""

from pathlib import Path

_HERE = Path(__file__).parent
CHECKPOINT = _HERE / "checkpoint"
QWEN_CHECKPOINT = _HERE / "checkpoint-qwen"
EXAMPLES = _HERE / "examples"
