"""The GLM-V models, whose visual tokens are merged patches of the whole image, as Qwen's are."""

from .qwen import merged_patches

GLM4V = merged_patches("glm4v", "Glm4vForConditionalGeneration", vllm="glm")
GLM4V_MOE = merged_patches("glm4v_moe", "Glm4vMoeForConditionalGeneration", names=("Glm4vMoe_text",), vllm="glm")
GLM46V = merged_patches("glm46v", "Glm46VForConditionalGeneration", own="glm4v")
