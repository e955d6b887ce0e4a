"""The safetensors files of a model folder, what their headers say, and what a config may ask of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.config_json import LAYERS, SIZES
from reranker_batch.model.folder.json_files import read_object

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_WITHOUT_EFFECT = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias)$"
    r"|(^|\.)pooler\."
    r"|^(cls|lm_head|lm_predictions|mask_predictions|generator_\w+|discriminator_\w+)\."
    r"|^(vocab_transform|vocab_layer_norm|vocab_projector|predictions|decoder)\."
)
"""Buffers that newer versions compute, poolers that a head does not read, and heads for masked or next words."""


_NARROW = ("I4", "I8", "U4", "U8", "F4", "F6", "F8")
"""Types of eight bits or fewer, as safetensors calls them."""
_MOST_TIMES, _MOST_MORE = 2, 10_000_000
"""Parameters that may be missing before a model is built, which then says by name what is."""


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights, those that transformers reads.

    Raises:
        ModelError: Some are missing, or the index names what is not a file of the folder.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        raise ModelError(f"There are weights in several files in {folder}, but no {_INDEX} that lists them. Copy it.")
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{index} has no weight_map from weights to files. Copy the model again.")
    names = sorted(set(places.values()))
    for name in names:
        if "/" in name or "\\" in name or not (folder / name).is_file():
            raise ModelError(f"{index} names the file {name[:100]!r}, which is not in {folder}. Copy it there.")
    return [folder / name for name in names]


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights, by the headers of their files.

    Raises:
        ModelError: A file is missing or damaged, or weights are stored in eight bits or fewer.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                types = {name: str(part.get_dtype()) for name, part in slices.items() if len(part.get_shape()) > 1}
                shapes |= {name: tuple(part.get_shape()) for name, part in slices.items()}
        except Exception as error:  # The library's own class, and those of the operating system.
            raise ModelError(
                f"{path} is not a whole safetensors file: {type(error).__name__}: {error}. Copy it again."
            ) from error
        _require_wide(path, types)
    return shapes


def _require_wide(path: Path, types: Mapping[str, str]) -> None:
    """Refuse weights that were quantized: without their scales they are other numbers."""
    narrow = next((name for name, kind in types.items() if kind != "BOOL" and kind.startswith(_NARROW)), None)
    if narrow is not None:
        raise ModelError(
            f"{path} has weights of the type {types[narrow]} ({narrow}), so it was quantized, which is not served. "
            "Name the model that it was made from, in float32, bfloat16 or float16."
        )


def require_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a config.json that asks for more layers or larger sizes than the weights have.

    Raises:
        ModelError: It does, before a model of these sizes is built.
    """
    shapes = weight_shapes(folder)
    layers = max((int(match[1]) + 1 for name in shapes if (match := _LAYER.search(name))), default=None)
    for key in LAYERS:
        asked = config.get(key)
        if asked and layers is not None and asked > layers:
            raise _too_large(folder, key, asked, f"layers 0 to {layers - 1}")
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for key in SIZES:
        asked = config.get(key)
        if asked and asked > largest:
            raise _too_large(folder, key, asked, f"no side longer than {largest:,}")


def require_stored(folder: Path, num_parameters: int) -> None:
    """Refuse a model of many more parameters than the files hold.

    Raises:
        ModelError: It is one.
    """
    stored = sum(prod(shape) for shape in weight_shapes(folder).values())
    if num_parameters > _MOST_TIMES * stored + _MOST_MORE:
        raise ModelError(
            f"{folder / 'config.json'} asks for a model of {num_parameters:,} parameters, and the weights have "
            f"{stored:,}. They do not belong together, or the copy is not complete."
        )


def _too_large(folder: Path, key: str, asked: int, present: str) -> ModelError:
    return ModelError(
        f"{folder / 'config.json'} says {key}: {asked}, and the weights have {present}. They do not belong together, "
        "or the copy is not complete."
    )


def require_all_used(folder: Path, unused: Collection[str], *, class_name: str) -> list[str]:
    """Refuse weights that the class does not use and that change a score; the names of the others.

    Raises:
        ModelError: There are such weights: another model was trained than the one that would be run.
    """
    wrong = changing(unused)
    if wrong:
        raise ModelError(
            f"{len(wrong)} weights in {folder} are not used by {class_name} ({some_of(wrong)}): the model that was "
            "trained is another one than would be run, so its scores would be wrong. Use a version for this class of "
            "transformers."
        )
    return sorted(unused)


def changing(unused: Collection[str]) -> list[str]:
    """Those of the weights that a class does not use which would change a score."""
    return sorted(name for name in unused if not _WITHOUT_EFFECT.search(name))


def some_of(names: Collection[str]) -> str:
    """The first of the names, and how many more there are."""
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
