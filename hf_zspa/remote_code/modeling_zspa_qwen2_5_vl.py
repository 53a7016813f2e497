"""Qwen2.5-VL that prunes its own visual tokens, of images and of videos."""

import functools

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

# Every helper is imported here, used or not: transformers 4.x copies only the files that this one names.
from .zspa_compat import feature_list, named_arguments, register_key_mapping
from .zspa_config import ZspaConfigMixin
from .zspa_forward import ZspaForwardMixin  # noqa: F401
from .zspa_generation import ZspaGenerationMixin
from .zspa_kernels import select_on_gpu  # noqa: F401
from .zspa_lookahead import select_on_cpu  # noqa: F401
from .zspa_prefill import PrunedPrompt  # noqa: F401
from .zspa_prompt import prompt_mask  # noqa: F401
from .zspa_selection import ZspaPruner  # noqa: F401
from .zspa_similarity import Cosines  # noqa: F401
from .zspa_visuals import keep_tokens


class ZspaQwen2_5_VLConfig(ZspaConfigMixin, Qwen2_5_VLConfig):
    """`Qwen2_5_VLConfig` with the fields of pruning."""

    def __init__(self, *args, **kwargs):  # transformers 5 makes one for a class without, past the mixin's
        super().__init__(*args, **kwargs)


class ZspaQwen2_5_VLForConditionalGeneration(ZspaGenerationMixin, Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt.

    Against its base it changes `get_image_features`, `get_video_features`, `prepare_inputs_for_generation`,
    `generate` and `forward`.
    """

    config_class = ZspaQwen2_5_VLConfig
    visual_inputs = {
        "image": ("pixel_values", "image_grid_thw"),
        "video": ("pixel_values_videos", "video_grid_thw"),
    }
    rope_rows = 3
    describing_positions = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts", "mm_token_type_ids")

    @functools.wraps(Qwen2_5_VLForConditionalGeneration.forward)
    def forward(self, *args, **kwargs):
        return self.pruned_forward(super().forward, *args, **kwargs)

    def get_video_features(self, *args, visual_token_pruner=None, prompt_tokens=None, **kwargs):
        """As `get_image_features`, for videos: per video `(n_i, d)`."""
        features = super().get_video_features(*args, **kwargs)
        if visual_token_pruner is None:
            return features
        return keep_tokens(feature_list(features), prompt_tokens, visual_token_pruner)

    def full_position_ids(self, input_ids, attention_mask, described):
        """Temporal, height and width positions `(3, batch, S)`; None without the token types that late 5.x needs."""
        rope_index = self.model.get_rope_index
        given = named_arguments(rope_index, {"mm_token_type_ids": None} | described)
        if given.get("mm_token_type_ids", given) is None:
            return None
        return rope_index(**given | {"input_ids": input_ids, "attention_mask": attention_mask})[0]


register_key_mapping(ZspaQwen2_5_VLForConditionalGeneration, Qwen2_5_VLForConditionalGeneration)
