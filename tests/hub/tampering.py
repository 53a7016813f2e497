"""Ways to make a checkpoint run other code, or load another model, and what is said of each."""

import hashlib
import json
from pathlib import Path

from hf_zspa.remote_code import zspa_compat

IMPORT = Path(zspa_compat.__file__).read_text().splitlines().index("import inspect") + 1  # a line to tamper with


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def put(path, **entries):
    """Entries into a JSON file, which is made if there is none."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | entries))


def tampered_line(folder):
    edit(folder / "zspa_compat.py", "import inspect\n", "import inspect, os\n")


def tampered_end(folder):
    with (folder / "zspa_prompt.py").open("a") as file:
        file.write("print('more')\n")


def tampered_with_its_digest(folder):
    tampered_line(folder)
    digests = json.loads((folder / "config.json").read_text())["zspa_code_sha256"]
    digests["zspa_compat.py"] = hashlib.sha256((folder / "zspa_compat.py").read_bytes()).hexdigest()
    put(folder / "config.json", zspa_code_sha256=digests)


def another_digest(folder):
    edit(folder / "config.json", '"zspa_compat.py": "', '"zspa_compat.py": "0')


def cut_short(folder):
    path = folder / "zspa_prompt.py"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))


def no_text(folder):
    path = folder / "zspa_compat.py"
    path.write_bytes(path.read_bytes().replace(b"import inspect\n", b"import inspect\xff\n", 1))


def missing_file(folder):
    (folder / "zspa_prompt.py").unlink()


def strange_file(folder):
    (folder / "helper.py").write_text("print('strange')")


def strange_folder(folder):
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text("print('strange')")


def auto_map_elsewhere(folder):
    edit(folder / "config.json", '"AutoModel": "modeling_zspa_llava.', '"AutoModel": "else/where--modeling_zspa_llava.')


def tokenizer_code(folder):
    edit(folder / "tokenizer_config.json", "{", '{"auto_map": {"AutoTokenizer": ["a.B", null]},')


def pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")


ELSEWHERE = {"AutoImageProcessor": "else/where--a.B"}


def strange_file_with_its_digest(folder):
    strange_file(folder)
    digests = json.loads((folder / "config.json").read_text())["zspa_code_sha256"]
    put(folder / "config.json", zspa_code_sha256=digests | {"helper.py": "0"})


def strange_generation(folder):
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "requirements.txt").write_text("strange")


def compiled_code(folder):
    (folder / "zspa_prompt.cpython-311.so").write_bytes(b"x")


def another_config_file(folder):
    put(folder / "config.json", configuration_files=["config.4.0.0.json"])


def a_config_for_some_versions(folder):
    put(folder / "config.4.0.0.json", model_type="llava")


def an_adapter(folder):
    put(folder / "adapter_config.json", base_model_name_or_path="else/where", peft_type="LORA")


def processor_code(folder):
    put(folder / "processor_config.json", image_processor={"auto_map": ELSEWHERE})


def processor_code_in_a_list(folder):
    put(folder / "processor_config.json", parts=[{}, {"image_processor": {"auto_map": ELSEWHERE}}])


def processor_code_spelled_otherwise(folder):
    (folder / "preprocessor_config.json").write_text('{"auto\\u005fmap": {"AutoImageProcessor": "a.B"}}')


def code_of_a_part(folder):
    put(folder / "config.json", text_config={"model_type": "llama", "auto_map": {"AutoModel": "else/where--a.B"}})


def code_in_a_folder(folder):
    put(folder / "other" / "tokenizer_config.json", auto_map=ELSEWHERE)


def a_model_for_sound(folder):
    put(folder / "processor_config.json", audio_tokenizer={"audio_tokenizer_name_or_path": "else/where"})


def kernels(folder):
    put(folder / "config.json", vision_config={"attn_implementation": "else/where"})


def weights_by_another_name(folder):
    put(folder / "model.safetensors.index.json", weight_map={"a": "weights.txt"})


def no_json(folder):
    (folder / "generation_config.json").write_text("{")


def endless_json(folder):
    (folder / "generation_config.json").write_text("[" * 200_000)


def no_version(folder):
    put(folder / "config.json", zspa_version="0.0.9 --index-url http://else.where")


def pipeline_code(folder):
    implementation = {"impl": "else/where--m.P", "pt": ["AutoModelForImageTextToText"], "type": "multimodal"}
    put(folder / "config.json", custom_pipelines={"image-text-to-text": implementation})


def code_named_by_another_entry(folder):
    put(folder / "generation_config.json", plans=[{"by": "else/where--strategies.Beam"}])


def other_weights(folder):
    put(folder / "config.json", transformers_weights="../elsewhere/model.safetensors")


def a_part_that_loads_a_backbone(folder):
    detr = {"model_type": "detr", "use_timm_backbone": False, "use_pretrained_backbone": True}
    put(folder / "config.json", vision_config=detr | {"hidden_size": 8})


def a_part_that_loads_a_pickle(folder):
    put(folder / "config.json", vision_config={"model_type": "timm_wrapper", "architecture": "resnet18"})


def a_part_with_kernels_of_its_own(folder):
    put(folder / "config.json", text_config={"model_type": "falcon_mamba"})


def a_part_that_is_a_name(folder):
    put(folder / "config.json", text_config="else/where")


def a_backbone(folder):
    config = json.loads((folder / "config.json").read_text())
    put(folder / "config.json", vision_config=config["vision_config"] | {"backbone": "else/where"})


def a_part_from_a_checkpoint_of_its_own(folder):
    config = json.loads((folder / "config.json").read_text())
    put(folder / "config.json", vision_config=config["vision_config"] | {"checkpoint_path": "other.pth"})


def a_part_with_arguments_for_a_backbone(folder):
    config = json.loads((folder / "config.json").read_text())
    own = {"backbone_kwargs": {"trust_remote_code": True}}
    put(folder / "config.json", vision_config=config["vision_config"] | own)


def weights_of_a_variant_by_another_name(folder):
    put(folder / "model.safetensors.index.fp16.json", weight_map={"a": "more/../../a.safetensors"})


def an_unknown_kind(folder):
    (folder / "demo.ipynb").write_text("{}")


def a_file_that_is_config_to_some_systems(folder):
    put(folder / "Config.json", model_type="llava")


def a_value_out_of_range(folder):
    put(folder / "config.json", zspa_keep_ratio=3)


def a_misspelt_field(folder):
    put(folder / "config.json", zspa_keep_ratios=0.3)


TAMPERING = {
    a_value_out_of_range: "config.json cannot be loaded: zspa_keep_ratio is 3, but must be a number in (0, 1]",
    a_misspelt_field: "config.json cannot be loaded: config.json has zspa_keep_ratios, did you mean zspa_keep_ratio?",
    tampered_line: f"zspa_compat.py: line {IMPORT} is 'import inspect, os', but installed 'import inspect'",
    tampered_end: "is \"print('more')\", but installed ''",
    tampered_with_its_digest: f"zspa_compat.py: line {IMPORT} is 'import inspect, os', but installed 'import inspect'",
    another_digest: "zspa_compat.py: is as installed, but config.json has 0",
    cut_short: "is no such line, but installed ''",
    no_text: f"zspa_compat.py: line {IMPORT} is 'import inspect\\\\xff', but installed 'import inspect'",
    missing_file: "zspa_prompt.py: is missing",
    strange_file: "helper.py: does not belong to a zspa checkpoint",
    strange_folder: "custom_generate/generate.py: does not belong to a zspa checkpoint",
    auto_map_elsewhere: '"AutoModel": "else/where--modeling_zspa_llava.ZspaLlavaForConditionalGeneration"',
    tokenizer_code: "tokenizer_config.json sends transformers to code of its own",
    pickle: "pytorch_model.bin can run code when it is loaded",
    strange_file_with_its_digest: "helper.py: is no file of the version it names",
    strange_generation: "custom_generate/requirements.txt replaces the code that generates",
    compiled_code: "zspa_prompt.cpython-311.so is compiled code",
    another_config_file: "config.json has transformers read another file in the place of config.json: configuration_fi",
    a_config_for_some_versions: "config.4.0.0.json can be read in the place of config.json",
    an_adapter: "adapter_config.json makes it an adapter, and has transformers load the model of another repository",
    processor_code: "processor_config.json sends transformers to code of its own: image_processor.auto_map is {",
    processor_code_in_a_list: "sends transformers to code of its own: parts.1.image_processor.auto_map is {",
    processor_code_spelled_otherwise: "preprocessor_config.json sends transformers to code of its own: auto_map is {",
    code_of_a_part: "config.json sends transformers to code of its own: text_config.auto_map is {",
    code_in_a_folder: "other/tokenizer_config.json sends transformers to code of its own: auto_map is {",
    a_model_for_sound: "processor_config.json has the processor load a model of another repository: audio_tokenizer.",
    kernels: "config.json has transformers take its attention from another repository: vision_config.attn_implementati",
    weights_by_another_name: "model.safetensors.index.json names weights.txt as weights",
    pipeline_code: "config.json has a pipeline of transformers run code of its own: custom_pipelines is {",
    code_named_by_another_entry: 'generation_config.json names code of another repository: plans.0.by is "else/where--',
    other_weights: "config.json has transformers load other weights than model.safetensors: transformers_weights is",
    a_part_that_loads_a_backbone: 'vision_config in its config.json is of model type "detr", which may load more than',
    a_part_that_loads_a_pickle: 'is of model type "timm_wrapper", which may load more than the checkpoint: llava can',
    a_part_with_kernels_of_its_own: 'text_config in its config.json is of model type "falcon_mamba", which may load',
    a_part_that_is_a_name: 'text_config in its config.json is of model type "else/where", which may load more',
    a_backbone: 'config.json has a part of the model loaded from another place: vision_config.backbone is "else/where"',
    a_part_from_a_checkpoint_of_its_own: 'vision_config.checkpoint_path is "other.pth"',
    a_part_with_arguments_for_a_backbone: "vision_config.backbone_kwargs is {",
    weights_of_a_variant_by_another_name: "index.fp16.json names more/../../a.safetensors as weights",
    an_unknown_kind: "demo.ipynb is of a kind that nobody here vouches for: move it away. What may be there",
    a_file_that_is_config_to_some_systems: "Config.json is the same file as config.json to some systems",
    no_json: "generation_config.json is not valid JSON",
    endless_json: "generation_config.json is not valid JSON",
    no_version: "config.json does not say which version of hf_zspa wrote it",
}
