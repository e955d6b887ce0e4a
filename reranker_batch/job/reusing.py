"""Scores of an earlier output in a run: which output, whether they may be taken, and how much is left to score."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from reranker_batch.config import JobConfig, ReuseConfig
from reranker_batch.core.mapping import Caught, Item, Mapper, Result, raised
from reranker_batch.core.memo import KeyArray
from reranker_batch.core.pair_texts import UnitTexts, text_keys
from reranker_batch.core.report import MemoFile
from reranker_batch.core.reuse import ReuseCheck, ReuseRecord
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ConfigError, FingerprintError
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.reuse.check import MAX_UNITS, sample_sizes
from reranker_batch.reuse.lookup import Lookup, is_in_order
from reranker_batch.reuse.probe import Probe, SampleCheck
from reranker_batch.reuse.regroup import regroup
from reranker_batch.reuse.source import open_source
from reranker_batch.storage.files.filesystem import Folder, absolute
from reranker_batch.storage.input.source import InputSource
from reranker_batch.storage.output.latest import named_output
from reranker_batch.storage.output.reuse_source import EarlierOutput, read_earlier, read_record, write_record
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.output.scratch import Scratch
from reranker_batch.uris import LATEST, latest_folder

logger = logging.getLogger(__name__)

_HEAD_PAIRS = 2_048
"""Of a unit that is looked at before the run."""
_PAIRS_A_REPLICA = 4_096
"""Pairs that are worth another copy of the model."""
_WHOLE_UNITS = threading.BoundedSemaphore(2)
"""Units that one process looks at from their first row to their last at the same time."""


def asked_source(config: JobConfig) -> str | None:
    """`reuse.from`, the same whatever the working directory."""
    asked = config.reuse.source
    if asked is None:
        return None
    folder = latest_folder(asked)
    return absolute(asked) if folder is None else LATEST + absolute(folder)


def recorded_reuse(config: JobConfig, state: RunState) -> ReuseRecord | None:
    """What the attempt that began this output decided, None where there is nothing yet that it could differ from.

    Raises:
        FingerprintError: The output was begun with another source, or with none.
        CommitError: The record cannot be read.
    """
    record, asked = read_record(state), asked_source(config)
    if record is not None and (asked is None or not record.names(asked)):
        was, now = record.asked, config.reuse.source
    elif record is None and asked is not None and state.part_names():
        was, now = "null", config.reuse.source
    else:
        return record
    raise FingerprintError(
        f"{config.output.path} was begun with reuse.from: {was}, and now it is {'null' if now is None else now}. "
        "Use another output.path, or set it back."
    )


@dataclass
class Reuse:
    """The earlier output of a run. `record` says what was found out about it."""

    config: ReuseConfig
    state: RunState
    record: ReuseRecord
    files: Mapping[str, MemoFile] = field(default_factory=dict)

    @classmethod
    def choose(
        cls, config: JobConfig, state: RunState, recorded: ReuseRecord | None, scoring: Mapping[str, Any]
    ) -> Reuse | None:
        """Find the earlier output, or keep to what is recorded; None where none is asked for.

        Raises:
            ConfigError: It is required and cannot be used, or it is not there any more when the run is resumed.
        """
        asked = asked_source(config)
        if asked is None:
            return None
        if recorded is None:
            source = named_output(asked, exclude=config.output.path)
            earlier = _no_output(asked) if source is None else read_earlier(Folder.at(source), scoring)
            recorded = ReuseRecord(asked, source, earlier.digest, earlier.problems)
        else:
            earlier = _kept(recorded, scoring)
        reuse = cls(config.reuse, state, recorded, earlier.files)
        reuse._require()
        return reuse

    def _require(self) -> None:
        if self.record.refused and self.config.required:
            raise ConfigError(
                f"No scores of {self.record.source or self.record.asked} can be reused:\n  "
                + "\n  ".join(self.record.refused)
                + "\nSet reuse.required: false for a run that scores all pairs, or another reuse.from."
            )

    def begin(self) -> None:
        """Write the record of a run that begins."""
        if self.record.refused:
            logger.warning("All pairs are scored: %s", "; ".join(self.record.refused))
        write_record(self.state, self.record)

    def prepared(
        self, spec: WorkerSpec, units: Sequence[WorkUnit], each: Mapper, *, dtype: str, is_checked: bool
    ) -> WorkerSpec:
        """The spec of a run that takes over what it can; `is_checked` says whether an attempt has passed the check.

        Raises:
            ConfigError: The memo is of another version or kind, and reuse is required.
            CommitError: A memo part is not the one on record.
        """
        if self.record.refused or self.record.source is None:
            return spec
        each = _raising(each)
        try:
            lookup = self._lookup(spec, units, each)
        except ConfigError as error:
            self._refuse(replace(self.record, refused=[str(error)]))
            return spec
        sample = 0 if is_checked else self.config.verify_sample
        probe = _probed(_UnitProbe(spec.source, lookup), units, each, sample)
        spec = replace(spec, lookup=lookup, max_replicas=-(-probe.left // _PAIRS_A_REPLICA))
        if not probe.left or not len(probe.sample):
            return spec
        check = SampleCheck(Scratch.fresh(spec.output, "sample"), dtype, self.config.max_logit_difference)
        probe.sample.save(check.scratch)
        return replace(spec, reuse_check=check)

    def _lookup(self, spec: WorkerSpec, units: Sequence[WorkUnit], each: Mapper) -> Lookup:
        source = open_source(
            Folder.at(str(self.record.source)),
            self.files,
            Scratch.fresh(spec.output, "memo"),
            scoring_fingerprint=spec.scoring_fingerprint,
        )
        is_listwise = spec.limits.is_listwise
        queries = _UnitQueries(spec.source, is_listwise)
        few = units[:: -(-len(units) // MAX_UNITS)]
        ids = [unit.unit_id for unit in units]
        if is_in_order(source, zip([unit.unit_id for unit in few], each(queries, few), strict=True)):
            return Lookup(source, None, self.config.max_age_nights, is_listwise)
        regrouped = regroup(source, ids, each(queries, units), Scratch.fresh(spec.output, "regrouped"))
        return Lookup(source, regrouped, self.config.max_age_nights, is_listwise)

    def accept(self, check: ReuseCheck | None) -> None:
        """Record a check that was passed, once the run has ended."""
        if check is not None and check.is_within and check != self.record.check:
            self.record = replace(self.record, check=check)
            write_record(self.state, self.record)

    def reject(self, check: ReuseCheck | None) -> None:
        """Record a check that has failed, before any pair is scored.

        Raises:
            ConfigError: Reuse is required.
        """
        self._refuse(self.record.rejected(check))

    def _refuse(self, record: ReuseRecord) -> None:
        self.record = record
        self.begin()
        self._require()


def _raising(each: Mapper) -> Mapper:
    """The same, but errors of a call are raised as they are, wherever it was made."""

    def mapped(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        yield from raised(each(Caught(call), items))

    return mapped


def _no_output(asked: str) -> EarlierOutput:
    return EarlierOutput(problems=[f"{asked} has no complete output yet."])


def _kept(recorded: ReuseRecord, scoring: Mapping[str, Any]) -> EarlierOutput:
    """The output that the run began with, as it was then."""
    if recorded.refused or recorded.source is None:
        return EarlierOutput()
    earlier = read_earlier(Folder.at(recorded.source), scoring)
    if earlier.problems or earlier.digest != recorded.memo_digest:
        why = earlier.problems[0] if earlier.problems else "its memo is another one."
        raise ConfigError(
            f"This run took scores from {recorded.source}, which cannot be used any more: {why} "
            "Put it back, or use another output.path."
        )
    return earlier


@dataclass(frozen=True)
class _UnitQueries:
    """Hashes of the queries of a unit, or of their whole lists, wherever the engine computes."""

    source: InputSource
    is_listwise: bool

    def __call__(self, unit: WorkUnit) -> KeyArray:
        if not self.is_listwise:
            keys: KeyArray = text_keys(self.source.read_queries(unit))[:, 0]
            return keys
        with _WHOLE_UNITS:
            rows = self.source.read(unit)
            return np.unique(UnitTexts.of(rows).keys(rows.candidates["query_at"].to_numpy())["q0"])


@dataclass(frozen=True)
class _UnitProbe:
    """Looks the pairs of a unit up, and takes so many of those that are reused."""

    source: InputSource
    lookup: Lookup

    def __call__(self, item: tuple[WorkUnit, int]) -> Probe:
        unit, sample = item
        probe = Probe(self.lookup)
        with _WHOLE_UNITS:
            probe.add(unit.unit_id, self.source.read(unit), sample=sample)
        return probe


def _probed(look: _UnitProbe, units: Sequence[WorkUnit], each: Mapper, num_sample: int) -> Probe:
    """What is left in all units, as far as the first rows of a few show it, with a sample of reused pairs.

    Where these show nothing to score, or nothing that is reused, whole units are looked at.
    """
    sizes = sample_sizes(len(units), max(num_sample, MAX_UNITS))
    heads = [(_head(units[at]), size if num_sample else 0) for at, size in sizes.items()]
    probe = Probe(look.lookup).merge(each(look, heads))
    if probe.left and (len(probe.sample) or not num_sample):
        total = sum(unit.num_pairs for unit in units)
        probe.left = max(1, probe.left * total // max(probe.pairs, 1))
        return probe
    if not probe.left:
        return _scanned(look, probe, each(look, [(unit, 0) for unit in units]))
    return _sampled(probe, each(look, [(unit, num_sample) for unit in units]))


def _scanned(look: _UnitProbe, probe: Probe, units: Iterable[Probe]) -> Probe:
    """What is left exactly, with the sample that is known."""
    probe.left = Probe(look.lookup).merge(units).left
    return probe


def _sampled(probe: Probe, units: Iterable[Probe]) -> Probe:
    """With the sample of the first unit that reuses anything; what is left is all that it may be."""
    for found in units:
        probe.merge([found])
        if len(probe.sample):
            break
    return probe


def _head(unit: WorkUnit) -> WorkUnit:
    return unit.head(max(1, unit.num_rows * _HEAD_PAIRS // max(unit.num_pairs, 1)), _HEAD_PAIRS)
