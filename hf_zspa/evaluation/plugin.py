"""What lmms-eval finds under the entry point group `lmms_eval.models`."""

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The model `hf_zspa`; with lmms-eval's `--force_simple` the one for tasks about given answers."""
    return ModelManifest(
        model_id="hf_zspa",
        chat_class_path="hf_zspa.evaluation.lmms_model.HfZspa",
        simple_class_path="hf_zspa.evaluation.likelihood.HfZspaLikelihood",
    )
