"""The recorded plan of a run, compared with its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reranker_batch.core.tiling import tiling_problems
from reranker_batch.core.units import WorkUnit, units_digest
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.documents import REMEDY
from reranker_batch.storage.files.filesystem import is_inside


def units_of(values: Any, path: str) -> list[WorkUnit]:
    """The units that `run/plan.json` lists.

    Raises:
        CommitError: One is not what this program writes, or leads out of the input.
    """
    if not isinstance(values, list):
        raise CommitError(f"{path} is not a record of this program. {REMEDY}")
    return [_unit_of(unit, path) for unit in values]


def plan_problems(manifest: Mapping[str, Any], units: Sequence[WorkUnit]) -> list[str]:
    """What keeps these units from being the plan that the manifest records: every row of its input exactly once."""
    files = manifest["input"].get("files") if isinstance(manifest["input"], dict) else None
    if not isinstance(files, dict):
        return ["The manifest does not list the files of the input."]
    problems = tiling_problems(units, files)
    if not problems and units_digest(units) != manifest["units_digest"]:
        problems.append("Its units are not those of the digest in the manifest.")
    return problems


def _unit_of(values: Any, path: str) -> WorkUnit:
    try:
        unit = WorkUnit.from_dict(values)
    except ValueError:
        unit = None
    if unit is None or not all(is_inside(span.file) for span in unit.spans):
        raise CommitError(f"{path} holds a unit that no run wrote: {str(values)[:200]}. {REMEDY}")
    return unit
