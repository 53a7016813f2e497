"""The Qwen-VL models, whose visual tokens are merged patches of the whole image."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows


def _qwen(config: Config, size: Sequence[int]) -> Layout:
    """Merged patches over the whole resized image; the frames of a video one after the other."""
    merge = (config.get("vision_config") or {}).get("spatial_merge_size", 2)
    times, height, columns = size[0], size[1] // merge, size[2] // merge
    return Layout(times * height * columns, (Grid(rows(0, height, columns)),) if times == 1 else ())


def _small_and_large(config: Config, usual_patch: int) -> list[tuple[str, tuple[int, ...]]]:
    vision = config.get("vision_config") or {}
    patch = vision.get("patch_size", vision.get("spatial_patch_size", usual_patch))
    merge = vision.get("spatial_merge_size", 2)
    sides = [tokens * merge for tokens in (16, 36)] if are_sizes(patch, merge) else []
    return [(f"{side * patch} × {side * patch} pixels", (1, side, side)) for side in sides]


def merged_patches(
    model_type: str, stock: str, own: str = "", patch: int = 14, names: tuple[str, ...] = (), **others
) -> Family:
    """A family of `own` two models, whatever its config calls them, which differs between versions of transformers:
    these, or `names`."""
    own = own or model_type
    parts = (own, f"{own}_text", f"{own}_vision", *names)
    return Family(
        model_type, stock, parts, parts, layout=_qwen, typical=lambda config: _small_and_large(config, patch),
        size="image_grid_thw", needs=("torchvision",), **others,
    )  # fmt: skip


QWEN2_VL = merged_patches("qwen2_vl", "Qwen2VLForConditionalGeneration", vllm="qwen")
QWEN2_5_VL = merged_patches("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", vllm="qwen")
QWEN3_VL = merged_patches("qwen3_vl", "Qwen3VLForConditionalGeneration", patch=16, vllm="qwen")
QWEN3_VL_MOE = merged_patches(
    "qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", patch=16, vllm="qwen", not_built_in=("5.0",)
)
QWEN3_5 = merged_patches("qwen3_5", "Qwen3_5ForConditionalGeneration", patch=16, vllm="qwen")
QWEN3_5_MOE = merged_patches("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", patch=16)
