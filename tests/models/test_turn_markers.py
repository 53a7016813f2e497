"""The question is found in a prompt, whatever the tokenizer, the template and the surroundings."""

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vocabularies import byte_level_folder, sentencepiece_folder

from hf_zspa.checkpoints.chat_template import find_turn_markers, load_tokenizer, read_chat_template, special_token_ids
from hf_zspa.remote_code.zspa_prompt import prompt_mask

pytestmark = [pytest.mark.slow, pytest.mark.oldest_and_newest]

LLAMA_2_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{% set system = message['content'] %}"
    "{% elif message['role'] == 'user' %}{{ bos_token + '[INST] ' }}{% if loop.index0 == 1 and messages[0]['role'] =="
    " 'system' %}{{ '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
# The template of llava-v1.6-mistral-7b-hf as it is on the Hub: its end of a turn is text, not a token.
HUB_MISTRAL_TEMPLATE = tiny.MISTRAL_TEMPLATE.replace("'</s> '", r"'<\\s> '")
TEXT = st.text(st.sampled_from("abcdwxyzABUSER 01.,?!:;[]/<>'\"-\n\té日本"), min_size=1, max_size=30)
QUESTIONS = TEXT.filter(lambda text: text.strip() and text.strip() not in ("USER:", "ASSISTANT:"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, base_checkpoint):
    place = tmp_path_factory.mktemp("vocabularies")
    return {
        "Mistral v0.1": sentencepiece_folder(place / "v1", "tokenizer.model.v1", legacy=False),
        "Mistral v0.1, legacy": sentencepiece_folder(place / "legacy", "tokenizer.model.v1", legacy=True),
        "Mistral v0.3": sentencepiece_folder(place / "v3", "mistral_instruct_tokenizer_240323.model.v3", legacy=False),
        "tekken": byte_level_folder(place / "tekken"),
        **{f"tiny {family}": base_checkpoint(family) for family in tiny.FAMILIES},
    }


SENTENCEPIECE = ("Mistral v0.1", "Mistral v0.1, legacy", "Mistral v0.3")
CASES = [
    *((name, template) for name in SENTENCEPIECE for template in (tiny.LLAVA_TEMPLATE, HUB_MISTRAL_TEMPLATE)),
    ("tekken", tiny.QWEN_TEMPLATE),
    *((f"tiny {family}", tiny.TEMPLATES[family]) for family in tiny.FAMILIES),
]
SYSTEMS = (None, "You answer briefly.", "A chat between a curious human and an assistant.\nBe polite! ")
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]


@pytest.fixture(scope="module")
def checkpoint(folders):
    """A function from a case to its tokenizer, template and markers."""
    loaded = {}

    def load(name, template):
        if (name, template) not in loaded:
            tokenizer = load_tokenizer(folders[name])
            loaded[name, template] = (tokenizer, template, find_turn_markers(tokenizer, template))
        return loaded[name, template]

    return load


def conversation(questions, system, image_first):
    messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    for question in questions:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages += [{"role": "user", "content": content if image_first else content[::-1]}]
        messages += [{"role": "assistant", "content": [{"type": "text", "text": "It is red."}]}]
    return messages[:-1]


def query_ids(tokenizer, markers, text):
    """The ids of a prompt's tokens that count as its question."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    is_text = ~torch.isin(ids, torch.tensor(special_token_ids(tokenizer)))
    return ids[prompt_mask(ids, is_text, "query", markers.start, markers.end)].tolist()


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name, template", CASES, ids=IDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(QUESTIONS, min_size=1, max_size=3), system=st.sampled_from(SYSTEMS), image_first=st.booleans()
)
def test_the_question_of_the_last_turn_is_what_counts(checkpoint, name, template, questions, system, image_first):
    tokenizer, template, markers = checkpoint(name, template)
    messages = conversation(questions, system, image_first)
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    found = query_ids(tokenizer, markers, text)
    assert words(tokenizer.decode(found)) == words(questions[-1])


@pytest.mark.parametrize("name, template", CASES, ids=IDS)
def test_a_system_prompt_or_an_earlier_turn_changes_no_token_of_the_question(checkpoint, name, template):
    tokenizer, template, markers = checkpoint(name, template)
    found = [
        query_ids(
            tokenizer,
            markers,
            tokenizer.apply_chat_template(
                conversation([*earlier, "What is left of the 2 stars?"], system, image_first=True),
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            ),
        )
        for system in SYSTEMS
        for earlier in ([], ["How many are there?"])
    ]
    assert all(ids == found[0] for ids in found)


@pytest.mark.parametrize("text", ["USER: <image>\nwhat is this?\nASSISTANT:", "USER: what is this? <image> ASSISTANT:"])
@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_prompts_written_by_hand_are_read_too(checkpoint, name, text):
    tokenizer, _, markers = checkpoint(name, tiny.LLAVA_TEMPLATE)
    assert words(tokenizer.decode(query_ids(tokenizer, markers, text))) == "what is this?"


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_prompt_without_turns_counts_as_a_whole(checkpoint, name):
    tokenizer, _, markers = checkpoint(name, tiny.LLAVA_TEMPLATE)
    found = query_ids(tokenizer, markers, "<image>\nDescribe the picture.")
    assert words(tokenizer.decode(found)) == "Describe the picture."


def test_a_system_prompt_inside_the_user_turn_is_no_part_of_the_question(checkpoint):
    tokenizer, template, markers = checkpoint("Mistral v0.1", LLAMA_2_TEMPLATE)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is this?"}]
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert words(tokenizer.decode(query_ids(tokenizer, markers, text))) == "What is this?"


def test_a_template_that_refuses_system_prompts_still_gives_markers(checkpoint):
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system prompts') }}{% endif %}"
    _, _, with_refusal = checkpoint("Mistral v0.1", refuses + tiny.LLAVA_TEMPLATE)
    _, _, without = checkpoint("Mistral v0.1", tiny.LLAVA_TEMPLATE)
    assert with_refusal == without


@pytest.mark.parametrize("template", [None, "", "{{ messages[-1]['content'] }}", "{{ raise_exception('never') }}"])
def test_no_template_and_one_that_marks_nothing_give_no_markers(folders, template):
    assert find_turn_markers(load_tokenizer(folders["Mistral v0.1"]), template) == (None, None)


def test_the_markers_do_not_depend_on_the_version_of_transformers(checkpoint):
    tokenizer, _, markers = checkpoint("Mistral v0.1", tiny.LLAVA_TEMPLATE)
    starts = [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in markers.start]
    ends = [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in markers.end]
    assert starts[:2] == ["USER :", "▁US ER :"] and sorted(starts[2:]) == [
        "USER : ▁", "USER : ▁▁", "▁US ER : ▁", "▁US ER : ▁▁"
    ]  # fmt: skip
    assert ends == ["ASS IST ANT :", "▁ASS IST ANT :"]


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_the_template_is_found_where_the_processor_finds_it(tmp_path, file):
    if file.endswith(".jinja"):
        (tmp_path / file).write_text("the template")
    else:
        tiny.write_json(tmp_path / file, {"chat_template": "the template"})
    assert read_chat_template(tmp_path) == "the template"


def test_a_folder_without_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} has no tokenizer"):
        load_tokenizer(tmp_path)
