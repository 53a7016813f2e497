"""Mistral 3: Mistral Small 3.1 and its like; Pixtral, which is a LLaVA with the same processor."""

from dataclasses import replace

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from .recipe import IMAGE_PROCESSOR, Recipe, byte_level_tokenizer, text_config

SPECIAL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
]  # fmt: skip
TEMPLATE = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}"
    "{%- set system_message = messages[0]['content'] %}{%- else %}"
    "{%- set system_message = messages[0]['content'][0]['text'] %}{%- endif %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set system_message = 'You are Mistral Small 3.' %}{%- set loop_messages = messages %}{%- endif %}"
    "{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{%- for message in loop_messages %}"
    "{%- if message['role'] == 'user' %}{%- if message['content'] is string %}"
    "{{- '[INST]' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST]' }}"
    "{%- for block in message['content'] %}{%- if block['type'] == 'text' %}{{- block['text'] }}"
    "{%- elif block['type'] in ['image', 'image_url'] %}{{- '[IMG]' }}{%- else %}"
    "{{- raise_exception('Only text and image blocks are supported in message content!') }}{%- endif %}{%- endfor %}"
    "{{- '[/INST]' }}{%- endif %}{%- elif message['role'] == 'assistant' %}{%- if message['content'] is string %}"
    "{{- message['content'] + eos_token }}{%- else %}{{- message['content'][0]['text'] + eos_token }}{%- endif %}"
    "{%- else %}{{- raise_exception('Only user, system and assistant roles are supported!') }}{%- endif %}"
    "{%- endfor %}"
)


def _tokenizer() -> Tokenizer:
    tokenizer = byte_level_tokenizer(SPECIAL)
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[first])
    return tokenizer


def _config(tokenizer: Tokenizer) -> dict:
    text = text_config(tokenizer, "mistral")
    text |= {"attention_dropout": 0.0, "hidden_act": "silu", "rope_theta": 1000000000.0, "sliding_window": None}
    return {
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
        "image_token_index": tokenizer.token_to_id("[IMG]"), "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu", "spatial_merge_size": 2, "text_config": text, "torch_dtype": "float32",
        "tie_word_embeddings": False, "transformers_version": "4.50.0.dev0", "vision_feature_layer": -1,
        "vision_config": {
            "model_type": "pixtral", "attention_dropout": 0.0, "head_dim": 16, "hidden_act": "silu", "hidden_size": 32,
            "image_size": 64, "initializer_range": 0.02, "intermediate_size": 48, "num_attention_heads": 2,
            "num_channels": 3, "num_hidden_layers": 2, "patch_size": 4, "rope_theta": 10000.0,
        },
    }  # fmt: skip


def _processor(tokenizer: Tokenizer) -> dict[str, dict]:
    own = {"processor_class": "PixtralProcessor"}
    return {
        "tokenizer_config.json": own | {
            "tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
            "pad_token": "<pad>", "additional_special_tokens": SPECIAL, "legacy": True,
        },
        "preprocessor_config.json": own | IMAGE_PROCESSOR | {
            "image_processor_type": "PixtralImageProcessor", "patch_size": {"height": 4, "width": 4},
            "size": {"longest_edge": 64},
        },
        "processor_config.json": own | {
            "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]", "image_token": "[IMG]",
            "patch_size": 4, "spatial_merge_size": 2,
        },
    }  # fmt: skip


def _hub_name(name: str) -> str:
    name = name.removeprefix("model.").replace("language_model.", "language_model.model.")
    return name.replace("lm_head.", "language_model.lm_head.")


MISTRAL3 = Recipe(
    "mistral3", "Mistral3ForConditionalGeneration", _tokenizer, _config, _processor, TEMPLATE, "<s>", "</s>", "<pad>",
    lambda state: {_hub_name(name): tensor for name, tensor in state.items()},
)  # fmt: skip


def _pixtral_config(tokenizer: Tokenizer) -> dict:
    own = {name: value for name, value in _config(tokenizer).items() if name != "spatial_merge_size"}
    return own | {
        "architectures": ["LlavaForConditionalGeneration"], "image_seq_length": 1, "model_type": "llava",
        "transformers_version": None, "vision_feature_select_strategy": "full",
    }  # fmt: skip


def _pixtral_processor(tokenizer: Tokenizer) -> dict[str, dict]:
    files = _processor(tokenizer)
    del files["processor_config.json"]["spatial_merge_size"]
    return files


PIXTRAL = replace(
    MISTRAL3, family="llava", stock="LlavaForConditionalGeneration", config=_pixtral_config,
    processor=_pixtral_processor,
)  # fmt: skip
