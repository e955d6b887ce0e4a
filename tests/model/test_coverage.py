"""Layouts of published repositories: each is served by the right recipe and reads the right ids, or is refused with
the right reason while its twin is served."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from layouts import WEIGHTS, Layout, Refused, Served, as_text
from refused_layouts import REFUSED
from served_layouts import SERVED
from tiny_causal import gemma, jina, llama, qwen
from tiny_models import save_tokenizer

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.inspection import explain_model
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Kind, Recipe, choose_recipe
from reranker_batch.model.source.files import resolve_model

PAIRS = [("what is a panda?", "A bear of China, 12.5 % of ﬁne ünïts."), ("мир", "東京都")]
PROMPTED = {"qwen": qwen, "gemma": gemma, "llama": llama, "jina": jina}
Write = Callable[[Layout], Path]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of each tokenizer, made at the first call."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            if name in PROMPTED:
                PROMPTED[name]().save_pretrained(made[name])
            else:
                save_tokenizer(name, made[name])
        return made[name]

    return get


@pytest.fixture
def write(tokenizers: Callable[[str], Path], tmp_path: Path) -> Write:
    def write_layout(layout: Layout) -> Path:
        folder = Path(shutil.copytree(tokenizers(layout.tokenizer), tmp_path / "model"))
        if layout.config is not None:
            (folder / "config.json").write_text(json.dumps(layout.config))
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | dict(layout.tokenizer_config)))
        for name, content in {WEIGHTS: "weights", **layout.files}.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(as_text(_with_ids(folder, content)))
        return folder

    return write_layout


def _with_ids(folder: Path, content: Any) -> Any:
    """A LogitScore module names tokens by their ids, which are the tokenizer's."""
    if not isinstance(content, dict) or not isinstance(content.get("true_token_id"), str):
        return content
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return {key: token and tokenizer.convert_tokens_to_ids(token) for key, token in content.items()}


def serve(folder: Path, layout: Layout) -> tuple[Recipe, ModelPairEncoder]:
    """All that is checked before weights are read."""
    files = resolve_model(str(folder))
    options = {"model": layout.repository, **layout.options}
    recipe = choose_recipe(files.folder, files.config(), **options).recipe
    return recipe, load_pair_encoder(files.folder, recipe=recipe)


@pytest.mark.parametrize("case", SERVED, ids=lambda case: case.layout.name)
def test_a_published_layout_is_served_by_its_recipe(case: Served, write: Write) -> None:
    folder = write(case.layout)
    recipe, encoder = serve(folder, case.layout)
    assert (recipe.name, encoder.max_pair_tokens) == (case.recipe, case.tokens)
    if recipe.kind is not Kind.PAIR:
        return
    if "auto_map" in (case.layout.config or {}):
        (folder / "config.json").unlink()  # transformers would ask for the code that it names
    ids = as_tokens(encode_text_pairs(encoder, PAIRS).inputs).ids
    with quiet_loading():
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    assert [ids[at].tolist() for at in range(len(PAIRS))] == [tokenizer(*pair)["input_ids"] for pair in PAIRS]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.layout.name)
def test_a_layout_that_is_not_served_is_refused_with_its_reason(case: Refused, write: Write) -> None:
    folder = write(case.layout)
    with pytest.raises(ModelError, match=case.reason):
        serve(folder, case.layout)
    options = case.layout.options
    explained = explain_model(
        str(folder),
        recipe=options.get("name", "auto"),
        positive=options.get("positive"),
    )
    assert explained.refusal is not None
    assert re.search(case.what, dict(explained.rows)["what it is"])
    assert dict(explained.rows)["served"] == "no"


def test_every_refusal_has_a_twin_that_is_served() -> None:
    """A check that refuses everything would fail here, or in the test of the twin."""
    served = {_content(case.layout) for case in SERVED}
    alone = [case.layout.name for case in REFUSED if _content(case.twin) not in served]
    assert not alone


def test_there_are_about_150_layouts_and_no_two_are_the_same() -> None:
    layouts = [*(case.layout for case in SERVED), *(case.layout for case in REFUSED)]
    names, contents = [layout.name for layout in layouts], [_content(layout) for layout in layouts]
    assert len(names) >= 150
    assert len(set(names)) == len(names)
    assert len(set(contents)) >= len(contents) - 3


def _content(layout: Layout) -> str:
    parts = (layout.tokenizer, layout.config, layout.files, layout.tokenizer_config, layout.options)
    return json.dumps([dict(part) if isinstance(part, dict) else part for part in parts], sort_keys=True)
