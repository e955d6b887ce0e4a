"""A repository's own template for a query and a document: evidence where it makes the recipe's prompt, else refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_causal import qwen
from tiny_models import save_tokenizer

from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.recipes import CROSS_ENCODER, RECIPES, Recipe, choose_recipe

SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
QUERY = '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}'
DOCUMENT = '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
ASKED = (
    '{% set asked = messages | selectattr("role", "eq", "system") | map(attribute="content") | list %}'
    "{{ asked[0] if asked else '" + INSTRUCT + "' }}"
)
END = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n"
QWEN3 = RECIPES["qwen3-reranker"]


def template(instruct: str = INSTRUCT, *, query: str = QUERY, document: str = DOCUMENT, end: str = END) -> str:
    return f"{SYSTEM}<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}{end}"


def structured(text: str) -> str:
    """The same template for messages whose content is a list of parts."""
    names = {"query": QUERY, "document": DOCUMENT}
    for role, plain in names.items():
        text = text.replace(plain, f'{{{{ (messages | selectattr("role", "eq", "{role}") | first).content[0].text }}}}')
    return text


CHAT = (
    "{% for message in messages %}{% if message.role in ('user', 'system', 'assistant') %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
)
CHATML = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"

RIGHT = {
    "as published": template(),
    "one newline short, as Jinja reads it": template(end=END[:-1]),
    "instruction of the system": template(ASKED),
    "structured messages": structured(template()),
    "by place": template(query="{{ messages[-2].content }}", document="{{ messages[-1]['content'] }}"),
}
WRONG = {
    "document first": template(query=DOCUMENT, document=QUERY),
    "no think block": template(end="<|im_end|>\n<|im_start|>assistant\n"),
    "an instruction of its own": template("Find code that does this"),
    "two newlines": template().replace("\n<Document>", "\n\n<Document>"),
    "two newlines short": template(end=END[:-2]),
    "a document that is cut": template(document=DOCUMENT.replace("first }}", "first | truncate(200) }}")),
    "another system text": template().replace("Judge whether", "Judge if"),
    "no system text": template().removeprefix(SYSTEM),
    "document first, by place": template(query="{{ messages[-1].content }}", document="{{ messages[-2].content }}"),
}
NO_EVIDENCE = {
    "a chat's": CHAT,
    "a chat's of any roles": CHATML,
    "without the document": template(document="-"),
    "syntax error": template() + "{% if",
    "raises": "{{ raise_exception('no') }}",
    "no end": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + template(),
    "out of the sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}" + template(),
    "memory": "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
    + template(),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    qwen().save_pretrained(folder)
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Tokenizer and settings of a causal Qwen3, without a template and without weights."""
    return Path(shutil.copytree(made, tmp_path / "model"))


def in_jinja(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text)


def in_extra_jinja(folder: Path, text: str) -> None:
    in_jinja(folder, CHAT)
    (folder / "additional_chat_templates").mkdir(exist_ok=True)
    (folder / "additional_chat_templates/reranker.jinja").write_text(text)


def in_config(folder: Path, value: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": value}))


def in_named_config(folder: Path, text: str) -> None:
    in_config(folder, [{"name": "default", "template": CHAT}, {"name": "reranker", "template": text}])


PLACES = (in_jinja, in_extra_jinja, in_config, in_named_config)


def choose(folder: Path, **kwargs: str) -> Recipe:
    return choose_recipe(folder, read_config(folder), model="/models/ours", **kwargs).recipe


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT.keys())
def test_a_template_that_makes_the_prompt_is_evidence(folder: Path, text: str) -> None:
    in_jinja(folder, text)
    assert choose(folder).name == "qwen3-reranker"
    load_pair_encoder(folder, recipe=QWEN3)


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_template_that_makes_another_text_is_refused_with_both(folder: Path, text: str) -> None:
    in_jinja(folder, text)
    both = r"chat_template\.jinja makes '.*capital of France.*the recipe qwen3-reranker makes '.*capital of France"
    for refused in (lambda: choose(folder), lambda: load_pair_encoder(folder, recipe=QWEN3)):
        with pytest.raises(ModelError, match=both if "truncate" not in text else "makes"):
            refused()


@pytest.mark.parametrize("text", NO_EVIDENCE.values(), ids=NO_EVIDENCE.keys())
def test_a_template_that_does_not_render_a_pair_is_no_evidence_and_no_reason_to_refuse(folder: Path, text: str) -> None:
    in_jinja(folder, text)
    with pytest.raises(ModelError, match="neither its name nor its files"):
        choose(folder)
    assert choose(folder, name="qwen3-reranker").name == "qwen3-reranker"
    load_pair_encoder(folder, recipe=QWEN3)


@pytest.mark.parametrize("put", PLACES)
def test_a_template_is_read_wherever_transformers_reads_one(folder: Path, put: Callable[[Path, Any], None]) -> None:
    put(folder, template())
    assert choose(folder).name == "qwen3-reranker"
    put(folder, WRONG["document first"])
    with pytest.raises(ModelError, match="template of its own"):
        choose(folder)


def test_a_template_in_a_file_replaces_that_of_the_settings(folder: Path) -> None:
    in_config(folder, WRONG["document first"])
    in_jinja(folder, template())
    load_pair_encoder(folder, recipe=QWEN3)


def test_the_template_that_sentence_transformers_names_is_the_one(folder: Path) -> None:
    in_extra_jinja(folder, template())
    in_jinja(folder, WRONG["no think block"])
    with pytest.raises(ModelError, match="template of its own"):
        load_pair_encoder(folder, recipe=QWEN3)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer"}]))
    settings = {"processing_kwargs": {"chat_template": {"chat_template": "reranker"}}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    load_pair_encoder(folder, recipe=QWEN3)


def test_a_chat_template_of_any_roles_counts_where_sentence_transformers_would_render_pairs_with_it(
    folder: Path,
) -> None:
    in_jinja(folder, CHATML)
    load_pair_encoder(folder, recipe=QWEN3)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer"}]))
    with pytest.raises(ModelError, match=r"<\|im_start\|>query"):
        load_pair_encoder(folder, recipe=QWEN3)


def test_an_instruction_built_into_the_template_is_honoured_where_it_is_asked_for(folder: Path) -> None:
    in_jinja(folder, template("Find code that does this"))
    asked = choose(folder, instruct="Find code that does this")
    load_pair_encoder(folder, recipe=asked)
    with pytest.raises(ModelError, match="set model.instruct to the repository's"):
        choose(folder, instruct="Find prose")


def test_another_instruction_than_the_vendors_may_be_asked_for(folder: Path) -> None:
    for text in (template(), template(ASKED)):
        in_jinja(folder, text)
        load_pair_encoder(folder, recipe=choose(folder, instruct="Find prose"))


def test_the_instruction_of_the_repositorys_settings_is_given_to_its_template(folder: Path) -> None:
    in_jinja(folder, template(ASKED.replace(INSTRUCT, "nothing asked")))
    with pytest.raises(ModelError, match="nothing asked"):
        choose(folder)
    settings = {"prompts": {"code": "Find code."}, "default_prompt_name": "code"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    recipe = choose(folder)
    assert recipe.resolved_instruct == "Find code."
    load_pair_encoder(folder, recipe=recipe)


def test_a_model_with_one_label_and_no_template_anywhere_is_refused(folder: Path) -> None:
    config = read_config(folder) | {"architectures": ["Qwen3ForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"Set|set model\.recipe=qwen3-reranker"):
        choose(folder)
    assert choose(folder, name="qwen3-reranker").name == "qwen3-reranker"
    in_jinja(folder, template())
    assert choose(folder).name == "qwen3-reranker"


def test_a_template_of_an_encoder_is_compared_with_its_pairs(tmp_path: Path) -> None:
    save_tokenizer("bert", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 64}))
    in_jinja(tmp_path, f"[CLS]{QUERY}[SEP]{DOCUMENT}[SEP]")
    load_pair_encoder(tmp_path, recipe=CROSS_ENCODER)
    in_jinja(tmp_path, f"[CLS]Query: {QUERY}[SEP]{DOCUMENT}[SEP]")
    with pytest.raises(ModelError, match="template of its own"):
        load_pair_encoder(tmp_path, recipe=CROSS_ENCODER)


def test_a_template_that_is_no_text_is_refused_by_name(folder: Path) -> None:
    in_config(folder, {"default": 3})
    with pytest.raises(ModelError, match=r"tokenizer_config\.json has a dict as chat_template"):
        choose(folder)
    in_config(folder, [{"name": "default"}])
    with pytest.raises(ModelError, match="without a name and a template"):
        choose(folder)
