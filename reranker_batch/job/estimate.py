"""What a run would do, from footers and a sample; no weights are loaded, nothing is started, nothing is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.counts import Counts
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder
from reranker_batch.core.units import WorkUnit, auto_unit_pairs
from reranker_batch.job.job import Job, open_job, open_model, plan_of
from reranker_batch.job.pace import Pace
from reranker_batch.pipeline import count_unit, prepare_unit
from reranker_batch.preparing.ready import look_at_input, making_of
from reranker_batch.preparing.sample import make_sample

_SAMPLE_PAIRS = 4_000
_SAMPLE_PLACES = 8
_SAMPLED = ("queries", "candidates", "truncated", "split", "requests", "total_tokens", "model_tokens")
"""Counts that are known before anything is scored."""


@dataclass(frozen=True)
class Estimate:
    """Counts of files, rows and units; tokens, requests and cut texts scaled up from the sample.

    Footers count a query without candidates as a pair. `pairs` does not, where the sample is all of the input.
    """

    files: int
    rows: int
    units: int
    pairs: int
    recipe: str
    profile: str
    limits: RequestLimits
    sample: Counts
    warnings: tuple[str, ...] = ()
    skipped_files: Mapping[str, str] = field(default_factory=dict)
    """Files that are left out, each with what is wrong."""
    is_exact: bool = True
    """Whether rows, units and pairs were counted, and not scaled up from a part of an input that is converted first."""
    pace: Pace | None = None

    def scaled(self, count: int) -> int:
        """A count of the sample for the whole input."""
        return round(count * self.pairs / max(self.sample.candidates, 1))

    def to_dict(self) -> dict[str, Any]:
        """Counts of the whole input, those of `estimated` scaled up from the `sample`. `expected_s` needs a pace."""
        sample = {name: getattr(self.sample, name) for name in _SAMPLED} | {
            "dead_letters": self.sample.num_dead_letters
        }
        return {
            **asdict(self),
            "sample": sample,
            "estimated": {name: self.scaled(count) for name, count in sample.items()},
            "expected_s": None if self.pace is None else self.pace.seconds(self.pairs),
        }

    def rows_to_show(self) -> list[tuple[str, str]]:
        sample, about = self.sample, "" if self.is_exact else "about "
        return [
            ("input", f"{self.files:,} files, {about}{self.rows:,} rows"),
            ("recipe", self.recipe),
            ("limits", f"profile {self.profile}: {_shown(self.limits)}"),
            ("units", f"{about}{self.units:,}"),
            ("pairs", f"{about}{self.pairs:,}"),
            ("model tokens", f"about {self.scaled(sample.model_tokens):,}, special tokens included"),
            ("requests", f"about {self.scaled(sample.requests):,} with {self.scaled(sample.total_tokens):,} tokens"),
            ("cut texts", f"about {self.scaled(sample.truncated):,} pairs lose text to a limit"),
            *([("long documents", f"about {self.scaled(sample.split):,} are read in chunks")] if sample.split else []),
            ("dead letters", f"about {self.scaled(sample.num_dead_letters):,} candidates"),
            ("sample", f"{sample.candidates:,} pairs, spread over the input"),
            *([("time", self.pace.shown(self.pairs))] if self.pace else []),
            *([("warnings", "\n".join(self.warnings))] if self.warnings else []),
            *([("skipped files", "\n".join(self.skipped_files.values()))] if self.skipped_files else []),
        ]


def estimate_job(config: JobConfig, *, pace: Pace | None = None) -> Estimate:
    """Plan a job and look at some thousand of its pairs; with a pace, also say how long it takes.

    Raises:
        ConfigError, InputError, ModelError: What `run` would refuse.
    """
    opened = open_model(config, with_weights=False)
    look = look_at_input(config)
    making = making_of(config, look)
    if making is None or making.is_complete:
        return _estimate(open_job(config, opened=opened, look=look), pace)
    with TemporaryDirectory(prefix="reranker-batch-") as folder:
        sampled = make_sample(making, folder)
        plan = plan_of(config, look, look.config.model_copy(update={"path": folder}))
        estimate = _estimate(Job(look.known(config), *opened, plan), pace)
    files = making.num_files
    estimate = replace(estimate, files=files)
    return estimate if sampled.is_whole else _scaled_up(estimate, sampled.scale, config)


def _scaled_up(estimate: Estimate, scale: float, config: JobConfig) -> Estimate:
    """The estimate of a part for the whole."""
    pairs, unit_pairs = round(estimate.pairs * scale), config.runtime.unit_pairs
    aim = auto_unit_pairs(pairs) if unit_pairs == "auto" else unit_pairs
    units = max(estimate.units, math.ceil(pairs / aim))
    return replace(estimate, rows=round(estimate.rows * scale), units=units, pairs=pairs, is_exact=False)


def _estimate(job: Job, pace: Pace | None) -> Estimate:
    plan, encoder, config = job.plan, job.backend.load_encoder(), job.config
    pieces = sample_units(plan.units)
    sample = sum((_count_sample(job, encoder, piece) for piece in pieces), Counts())
    is_whole = sum(piece.num_rows for piece in pieces) == sum(unit.num_rows for unit in plan.units)
    return Estimate(
        files=len(plan.files),
        rows=sum(file.num_rows for file in plan.files),
        units=len(plan.units),
        pairs=sample.candidates if is_whole else plan.num_pairs,
        recipe=job.backend.description.recipe,
        profile=config.limits.profile,
        limits=job.limits,
        sample=sample,
        warnings=plan.warnings,
        skipped_files=dict(plan.skipped),
        pace=pace,
    )


def sample_units(units: tuple[WorkUnit, ...]) -> list[WorkUnit]:
    """The first rows of units spread evenly over the input."""
    if not units:
        return []
    places = sorted({len(units) * place // _SAMPLE_PLACES for place in range(_SAMPLE_PLACES)})
    return [_head(units[place], _SAMPLE_PAIRS // len(places)) for place in places]


def _head(unit: WorkUnit, pairs: int) -> WorkUnit:
    """About the first `pairs` pairs of a unit. In the pairs layout the last query may be cut; it is a sample."""
    return unit.head(max(1, unit.num_rows * pairs // max(unit.num_pairs, 1)), pairs)


def _count_sample(job: Job, encoder: PairEncoder, unit: WorkUnit) -> Counts:
    rows = job.plan.source.read(unit)
    return count_unit(prepare_unit(unit, rows, encoder, job.limits, keep_documents=False))


def _shown(limits: RequestLimits) -> str:
    numbers = {
        "documents a request": limits.max_documents,
        "tokens an item": limits.max_item_tokens,
        f"tokens a request ({limits.request_formula})": limits.max_request_tokens,
        "tokens read at once" if limits.is_listwise else "tokens a pair": limits.max_pair_tokens,
    }
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number is not None)
