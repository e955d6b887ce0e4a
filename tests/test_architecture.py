"""The shape of the package: imports point down, a heavy library has one home, the public names are these."""

import pydoc
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from shape import PACKAGE, arrows, functions, imported_modules, room_of

import reranker_batch

ROOT = Path(__file__).parents[1]
OWNERS = {
    "ray": "runtime",
    "torch": "model",
    "transformers": "model",
    "tokenizers": "model",
    "huggingface_hub": "model",
    "pyarrow.parquet": "storage",
    "pyarrow.fs": "storage",
    "fsspec": "storage",
    "obstore": "storage",
    "deltalake": "storage",
    "pyiceberg": "storage",
    "ir_measures": "evaluation",
    "scipy": "evaluation",
}
LAYERS = {
    "uris": 0,
    "version": 0,
    "errors": 1,
    "schema": 1,
    "printing": 2,
    "config": 2,
    "core": 3,
    "storage": 4,
    "model": 4,
    "pipeline": 5,
    "evaluation": 5,
    "reranker": 6,
    "reuse": 6,
    "preparing": 6,
    "labels": 6,
    "page": 6,
    "exporting": 7,
    "memory_table": 7,
    "job": 7,
    "runtime": 8,
    "frames": 9,
    "cli": 9,
    "__init__": 10,
    "__main__": 11,
}
ROOMS = {
    "model": {
        "quiet": 0,
        "folder": 1,
        "recipes": 2,
        "source": 3,
        "encoding": 4,
        "forward": 4,
        "scorer": 5,
        "checks": 6,
        "local": 7,
    },
    "storage": {
        "files": 0,
        "values": 0,
        "prepared": 1,
        "input": 2,
        "tables": 3,
        "output": 4,
    },
    "pipeline": {
        "settings": 0,
        "prepared": 0,
        "scored": 1,
        "counting": 2,
        "layouts": 2,
        "finished": 3,
    },
    "preparing": {
        "work": 0,
        "record": 1,
        "stages": 2,
        "table": 3,
        "conversion": 4,
        "joining": 5,
        "preparation": 6,
        "ready": 7,
        "sample": 8,
        "initial": 8,
        "summary": 8,
    },
}
WHERE_INPUT_AND_OUTPUT_MEET = {"dead_letters.py", "redriving.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def home_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_heavy_libraries_stay_at_home(path: Path) -> None:
    home = home_of(path)
    for module in imported_modules(path):
        for library, owner in OWNERS.items():
            is_library = module == library or module.startswith(f"{library}.")
            assert not is_library or home == owner, f"{library} belongs to {owner}/"
        if module.startswith("reranker_batch."):
            target = module.split(".")[1]
            if target in LAYERS and target != home:
                assert LAYERS[target] < LAYERS[home], f"{home} must not import {module}"


def in_rooms(home: str) -> list[Path]:
    return [path for path in FILES if home_of(path) == home and path != PACKAGE / home / "__init__.py"]


@pytest.mark.parametrize("home", ROOMS)
def test_imports_between_rooms_point_down(home: str) -> None:
    ranks = ROOMS[home]
    for path in in_rooms(home):
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[:2] == ["reranker_batch", home] and parts[2] != room_of(path):
                assert ranks[parts[2]] < ranks[room_of(path)], f"{home}/{room_of(path)} must not import {module}"


def test_functions_stay_short_and_few_arrows_lead_between_rooms() -> None:
    sizes = functions()
    assert sizes[0].lines <= 40, sizes[0]
    assert statistics.median(function.lines for function in sizes) <= 9
    assert len(arrows("model")) <= 25
    assert len(arrows("storage")) <= 12


def test_input_and_output_meet_in_two_files() -> None:
    meeting = {
        path.name
        for path in FILES
        if path.parent == PACKAGE / "storage" / "output"
        and any(module.startswith("reranker_batch.storage.input.") for module in imported_modules(path))
    }
    assert meeting == WHERE_INPUT_AND_OUTPUT_MEET


def test_only_encoders_and_scorers_look_into_model_inputs() -> None:
    """All other steps know inputs by `ModelInputs`, so that inputs of another kind need no change there."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if home_of(path) != "model"
        and {"reranker_batch.core.inputs.TokenInputs", "reranker_batch.core.inputs.as_tokens"}
        & {*imported_modules(path)}
    }
    assert readers == {"core/pairs.py", "runtime/blocks.py"}


def test_no_layer_and_no_room_is_forgotten() -> None:
    assert {home_of(path) for path in FILES} == LAYERS.keys()
    for home, ranks in ROOMS.items():
        assert {room_of(path) for path in in_rooms(home)} == ranks.keys()


def test_the_public_names_are_these() -> None:
    assert sorted(reranker_batch.__all__) == [
        "JobConfig",
        "LabelConfig",
        "Reranker",
        "RerankerBatchError",
        "RunReport",
        "Verification",
        "__version__",
        "accept",
        "clean",
        "export",
        "label",
        "plan",
        "prepare",
        "redrive",
        "rerank_table",
        "run",
        "status",
        "verify",
        "verify_output",
    ]
    assert set(reranker_batch.__all__) <= set(dir(reranker_batch))
    for name in reranker_batch.__all__:
        assert getattr(reranker_batch, name).__doc__


def test_the_model_layer_needs_neither_ray_nor_pydantic_nor_polars() -> None:
    code = (
        "import sys; import reranker_batch.model.scorer, reranker_batch.model.encoding.tokenizing; "
        "print(sorted({'ray', 'pydantic', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_help_shows_the_public_names() -> None:
    shown = pydoc.render_doc(reranker_batch, renderer=pydoc.plaintext)  # type: ignore[attr-defined]  # typeshed lacks it
    for name in [
        "class Reranker",
        "rerank_table",
        "run",
        "plan",
        "prepare",
        "verify",
        "redrive",
        "export",
        "accept",
        "clean",
        "status",
    ]:
        assert re.search(rf"^ +{name}\b.*\(", shown, re.MULTILINE), name


def test_a_reranker_needs_neither_ray_nor_parquet_and_a_table_no_ray() -> None:
    code = (
        "import sys; import reranker_batch.reranker; print(sorted({'ray', 'pyarrow.parquet'} & set(sys.modules))); "
        "import reranker_batch.frames; print('ray' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.split() == ["[]", "False"]
