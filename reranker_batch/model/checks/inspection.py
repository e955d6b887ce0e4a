"""What `recipes --check` shows of a model: how it would be scored, and whether that works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reranker_batch.core.copies import CopyFolder
from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.golden import RED_PLANET, find_golden
from reranker_batch.model.checks.portrait import portrait
from reranker_batch.model.checks.start import encode_text_pairs, score_pairs, start_scorer
from reranker_batch.model.encoding.canaries import SCORED_PAIRS
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.model.recipes import Detected, Recipe, choose_recipe, label_names
from reranker_batch.model.source.files import ModelFiles, resolve_model

_PAIR = ("what is a panda?", "A bear.")
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Inspection:
    """Rows to show, and whether published values, if there are any, came out."""

    rows: list[tuple[str, str]]
    agrees: bool
    refusal: ModelError | None = None
    """Why the model is not served, and what to do."""


def explain_model(
    name: str,
    *,
    revision: str | None = None,
    recipe: str = "auto",
    instruct: str | None = None,
    positive: int | str | None = None,
    copy_folder: CopyFolder | None = None,
) -> Inspection:
    """What a folder or a repository is, and what is done with it; for one that is not served, why.

    Raises:
        ModelError: There is no such folder, or the repository cannot be read.
    """
    folder = Path(name).expanduser()
    try:
        files = resolve_model(name, revision=revision, copy_folder=copy_folder)
        folder = files.folder
        inspection = inspect_model(files, recipe=recipe, instruct=instruct, positive=positive)
    except ModelError as error:
        if not folder.is_dir():
            raise
        return Inspection([*portrait(folder), ("served", "no")], False, error)
    return Inspection([*portrait(folder), ("served", "yes"), *inspection.rows], inspection.agrees)


def inspect_model(
    files: ModelFiles,
    *,
    recipe: str = "auto",
    instruct: str | None = None,
    positive: int | str | None = None,
    dtype: str = "float32",
    device: str = "auto",
) -> Inspection:
    """Run the start-up checks on a model and describe the model.

    Raises:
        ModelError: A check failed.
    """
    detected = choose_recipe(
        files.folder, files.config(), model=files.name, name=recipe, instruct=instruct, positive=positive
    )
    encoder = load_pair_encoder(files.folder, recipe=detected.recipe, trust_remote_code=files.trust_remote_code)
    scorer = start_scorer(
        files.folder, recipe=detected.recipe, dtype=dtype, device=device, trust_remote_code=files.trust_remote_code
    )
    logits = score_pairs(scorer, encoder, SCORED_PAIRS)
    scores = detected.recipe.activation.scores(logits)
    rows = [*_about(detected, files.config()), *_input(encoder), ("run", scorer.execution)]
    rows += [
        ("canary pair", f"{logit:9.4f} {score:.4f}  {query} | {document[:_SHOWN_CHARACTERS]}")
        for (query, document), logit, score in zip(SCORED_PAIRS, logits, scores, strict=True)
    ]
    golden = find_golden(files.name)
    if golden is None:
        return Inspection([*rows, ("published values", "none known for this name")], True)
    worst = float(golden.differences(score_pairs(scorer, encoder, RED_PLANET)).max())
    agrees = worst <= golden.tolerance
    verdict = "agree" if agrees else "DO NOT AGREE"
    rows.append(("published values", f"{verdict}: largest difference {worst:.2g}, allowed {golden.tolerance:g}"))
    return Inspection(rows, agrees)


def _about(detected: Detected, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = detected.recipe
    return [
        ("recipe", f"{recipe.name} (version {recipe.version})"),
        ("because", detected.reason),
        *(("note", note) for note in detected.notes),
        ("instruction", recipe.resolved_instruct or ("none" if recipe.uses_instruct else "not taken")),
        *_label(recipe, config),
        ("relevance_score", str(recipe.activation)),
    ]


def _label(recipe: Recipe, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which label the logit is of, where there are two."""
    if recipe.positive_label is None:
        return []
    one, other = (
        f"{index} ({label_names(config)[index]!r})" for index in (recipe.positive_label, 1 - recipe.positive_label)
    )
    return [("logit", f"of label {one} less that of {other}")]


def _input(encoder: ModelPairEncoder) -> list[tuple[str, str]]:
    inputs = encode_text_pairs(encoder, [_PAIR]).inputs
    ids = inputs.ids if isinstance(inputs, RequestInputs) else as_tokens(inputs).ids
    template = encoder.num_special_tokens
    read = "request" if encoder.is_listwise else "pair"
    return [
        (f"tokens of a {read}", f"at most {encoder.max_pair_tokens:,}, of which the template takes {template}"),
        (f"ids of a {read}", " ".join(str(token_id) for token_id in ids[0])),
        *encoder.describe(inputs),
    ]
