"""Model folders with damaged or odd files: they are served, or refused with a message, and nothing else happens."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from test_templates import template
from tiny_causal import qwen, save_causal
from tiny_models import save_model

from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import choose_recipe
from reranker_batch.model.source.files import resolve_model
from reranker_batch.model.source.loading import load_model

Mutation = Callable[[bytes], bytes]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([10**9, 10**18, -(10**9), 2**31, 10**400, 1e308, -0.5, float("inf"), float("nan")]),
    st.text(max_size=8),
    st.sampled_from(
        ["", "Own", "[SEP]", "</s>", "left", "bert", "BertForSequenceClassification", "../x", "\ud800", "\x00"]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
KEYS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "auto_map",
            "quantization_config",
            "num_labels",
            "rope_scaling",
            "rope_parameters",
            "layer_types",
            "sliding_window",
            "tokenizer_class",
            "truncation_side",
            "padding_side",
            "model_max_length",
            "additional_special_tokens",
            "extra_special_tokens",
            "chat_template",
            "do_lower_case",
            "prompts",
            "default_prompt_name",
            "processing_kwargs",
            "max_seq_length",
            "sentence_transformers",
            "problem_type",
            "pruned_heads",
            "is_decoder",
            "torch_dtype",
            "dtype",
            "return_dict",
            "chunk_size_feed_forward",
        ]
    ),
)


def _paths(value: Any, depth: int = 4) -> Iterator[tuple[Any, ...]]:
    yield ()
    if depth and isinstance(value, dict):
        for key in list(value)[:40]:
            yield from ((key, *rest) for rest in _paths(value[key], depth - 1))
    if depth and isinstance(value, list):
        for at in range(min(len(value), 4)):
            yield from ((at, *rest) for rest in _paths(value[at], depth - 1))


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content of a JSON file with a value or two replaced, dropped or added, or with its bytes damaged."""
    kind = draw(st.sampled_from(["values"] * 6 + ["cut", "bytes", "encoding", "deep"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "bytes":
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(max_size=8)) + content[at + draw(st.integers(0, 3)) :]
    if kind == "encoding":
        return content.decode("utf-8").encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32", "utf-7"])))
    if kind == "deep":
        depth = draw(st.sampled_from([100, 990, 100_000]))
        return b"[" * depth + b"]" * depth
    value = json.loads(content)
    for _ in range(draw(st.integers(1, 2))):
        value = _changed(draw, value)
    return json.dumps(value).encode("utf-8", errors="surrogatepass")


def _changed(draw: st.DrawFn, value: Any) -> Any:
    path = draw(st.sampled_from(list(_paths(value))))
    if not path:
        return {**value, draw(KEYS): draw(ODD)} if isinstance(value, dict) else draw(ODD)
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    if draw(st.booleans()):
        del parent[path[-1]]
    else:
        parent[path[-1]] = draw(ODD)
    return value


def _module_layout(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer", "path": ""}]))
    prompts = {"prompts": {"query": "Find"}, "default_prompt_name": None, "model_type": "CrossEncoder"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    module = {"max_seq_length": 50, "do_lower_case": True, "processing_kwargs": {"text": {"max_length": 40}}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(module))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model("bert", tmp_path_factory.mktemp("bert"))
    _module_layout(folder)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"unk_token": "[UNK]", "sep_token": {"content": "[SEP]"}})
    )
    (folder / "added_tokens.json").write_text(json.dumps({"[NEW]": 800}))
    return folder


@pytest.fixture(scope="module")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_causal("qwen3-reranker", tmp_path_factory.mktemp("qwen3"))
    (folder / "chat_template.jinja").write_text(template())
    (folder / "1_LogitScore").mkdir()
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True}))
    stated = {
        f"{name}_token_id": qwen().convert_tokens_to_ids(token) for name, token in (("true", "yes"), ("false", "no"))
    }
    (folder / "1_LogitScore/config.json").write_text(json.dumps(stated))
    return folder


def serve(folder: Path, *, with_weights: bool) -> None:
    """All that is done with a model before a row is scored, but for the trial on canary texts."""
    with quiet_loading():
        files = resolve_model(str(folder))
        recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
        load_pair_encoder(files.folder, recipe=recipe)
        if with_weights:
            device = torch.device("cpu")
            load_model(files.folder, recipe=recipe, dtype=torch.float32, device=device, trust_remote_code=False)


def try_mutation(source: Path, data: st.DataObject) -> None:
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.json"))
    name = data.draw(st.sampled_from(names), label="file")
    content = data.draw(mutated((source / name).read_bytes()), label="content")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        shutil.copytree(source, folder)
        (folder / name).write_bytes(content)
        with suppress(ModelError):
            serve(folder, with_weights=name == "config.json")


@fuzzed
@given(data=st.data())
def test_a_folder_of_an_encoder_is_served_or_refused(encoder: Path, data: st.DataObject) -> None:
    try_mutation(encoder, data)


@fuzzed
@given(data=st.data())
def test_a_folder_of_a_generative_model_is_served_or_refused(generative: Path, data: st.DataObject) -> None:
    try_mutation(generative, data)


def test_the_folders_are_served_as_they_are(encoder: Path, generative: Path) -> None:
    """Else every mutation would be refused for another reason."""
    for folder in (encoder, generative):
        serve(folder, with_weights=True)
