"""Whatever becomes of the JSON files in `run/`: an error of ours, problems, or the truth."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from outputs import Output, finished

from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.units import WorkUnit, units_digest
from reranker_batch.errors import RerankerBatchError
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.gate import read_gate
from reranker_batch.storage.output.redriving import redrive_output
from reranker_batch.storage.output.run_state import GATED, MANIFEST, PLAN, REPORT
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output

NAMES = [MANIFEST, PLAN, REPORT, GATED]
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, 10**30, 0.0, 1.5, float("nan"), float("inf"), -0.0]),
    st.sampled_from(["", "complete", "failed", "too_many_failed", "00000-0000000000", "a.parquet", "../x", "\ud800"]),
    st.text(max_size=5),
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def containers(values: Any) -> list[Any]:
    """All objects and lists of a document that are not empty."""
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else []
    return [values for _ in [0] if inner] + [container for value in inner for container in containers(value)]


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Any], None]:
    """A change at one place of a document."""
    at, key = draw(st.integers(0, 10_000)), draw(st.integers(0, 10_000))
    kind = draw(st.sampled_from(["drop", "replace", "double", "rename", "add", "swap"]))
    value, amount = draw(_VALUES), draw(st.sampled_from([-1, 1, 100]))

    def edit(values: Any) -> None:
        found = containers(values)
        if not found:
            return
        target = found[at % len(found)]
        keys = list(target) if isinstance(target, dict) else [*range(len(target))]
        place, other = keys[key % len(keys)], keys[(key + 1) % len(keys)]
        old = target[place]
        if kind == "drop":
            del target[place]
        elif kind == "double" and isinstance(target, list):
            target.insert(place, old)
        elif kind == "rename" and isinstance(target, dict):
            target[str(value)[:20]] = target.pop(place)
        elif kind == "add" and isinstance(old, int):
            target[place] = old + amount
        elif kind == "swap":
            target[place], target[other] = target[other], old
        else:
            target[place] = value

    return edit


@st.composite
def breaks(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of a file's bytes."""
    at, more = draw(st.integers(0, 10_000)), draw(st.binary(max_size=4))
    kind = draw(st.sampled_from(["cut", "insert", "overwrite", "all", "utf-16", "utf-8-sig", "repeat", "brackets"]))

    def damage(content: bytes) -> bytes:
        place = at % (len(content) + 1)
        if kind in ("utf-16", "utf-8-sig"):
            return content.decode().encode(kind)
        if kind == "repeat":
            return content.replace(b"{", b'{"status": "complete", "units": [], "accepted": null,', 1 + at % 3)
        return {
            "cut": content[:place],
            "insert": content[:place] + more + content[place:],
            "overwrite": content[:place] + more + content[place + len(more) :],
            "all": more,
            "brackets": b"[" * 100_000,
        }[kind]

    return damage


def resealed(output: Output) -> None:
    """Make the hashes fit again, as somebody who edits by hand could."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        manifest = json.loads((output.run / MANIFEST).read_text())
        plan = json.loads((output.run / PLAN).read_text())
        manifest["fingerprint"] = fingerprint(manifest["settings"])
        manifest["scoring_fingerprint"] = fingerprint(manifest["settings"]["scoring"])
        with suppress(ValueError):
            manifest["units_digest"] = units_digest([WorkUnit.from_dict(unit) for unit in plan["units"]])
        (output.run / MANIFEST).write_text(json.dumps(manifest))


@st.composite
def damages(draw: st.DrawFn, names: list[str]) -> Callable[[Output], None]:
    """Changes to one or two of the files."""
    changes = draw(st.lists(st.tuples(st.sampled_from(names), edits() | breaks() | st.none()), min_size=1, max_size=2))
    with_hashes = draw(st.booleans())

    def damage(output: Output) -> None:
        for name, change in changes:
            path = output.run / name
            if change is None:
                path.unlink(missing_ok=True)
            elif path.exists() and change.__qualname__.startswith("edits"):
                with suppress(ValueError, RecursionError):
                    values = json.loads(path.read_bytes())
                    change(values)
                    path.write_text(json.dumps(values))
            elif path.exists():
                with suppress(UnicodeError):
                    path.write_bytes(change(path.read_bytes()))
        if with_hashes:
            resealed(output)

    return damage


def ours(call: Callable[[], Any]) -> Any:
    """What `call` gives, None where it ends in an error of ours; any other end is raised."""
    with suppress(RerankerBatchError):
        return call()
    return None


def assert_truthful(output: Output, right: list[dict[str, Any]], num_dead_letters: int) -> None:
    """If verify says sound, what it says is so."""
    verified = ours(lambda: verify_output(str(output.path)))
    if verified is not None and verified.is_sound:
        assert (verified.parts, verified.rows) == (len(output.parts()), len(right))
        assert verified.dead_letters == num_dead_letters
        assert output.rows() == right
    if verified is not None:
        assert (verified.exit_code == 0) == (verified.is_sound and output.is_marked)


@fuzzed
@given(damage=damages([MANIFEST, PLAN, REPORT]))
def test_a_finished_output_with_damaged_records_is_refused_repaired_or_right(damage: Callable[[Output], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = finished(Path(folder))
        right, num_dead_letters = output.rows(), verify_output(str(output.path)).dead_letters
        damage(output)
        assert_truthful(output, right, num_dead_letters)
        for read in (output.state.recorded_units, output.state.report, output.state.reported_parts):
            ours(read)
        status = ours(lambda: output_status(str(output.path)))
        assert status is None or json.loads(json.dumps(status.to_dict(), allow_nan=False))
        redriven = ours(lambda: redrive_output(str(output.path), f"{folder}/again"))
        assert redriven is None or redriven.num_candidates == num_dead_letters
        assert ours(lambda: accept_output(str(output.path))) is None
        with suppress(RerankerBatchError):
            output.resume()
            assert output.rows() == right
        assert_truthful(output, right, num_dead_letters)


@fuzzed
@given(damage=damages(NAMES))
def test_a_gated_output_with_damaged_records_is_accepted_only_when_it_is_right(
    damage: Callable[[Output], None],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = finished(Path(folder), gated=True)
        right, num_dead_letters = output.rows(), verify_output(str(output.path)).dead_letters
        damage(output)
        assert_truthful(output, right, num_dead_letters)
        status = ours(lambda: output_status(str(output.path)))
        assert status is None or (not status.is_served and status.exit_code != 0)
        accepted = ours(lambda: accept_output(str(output.path), by="the fuzz"))
        assert output.is_marked == (accepted is not None)
        if accepted is not None:
            assert output_status(str(output.path)).state == "accepted"
            assert verify_output(str(output.path)).exit_code == 0
            assert read_gate(output.state) == accepted
        assert_truthful(output, right, num_dead_letters)


@fuzzed
@given(damage=damages([REPORT, GATED]))
def test_a_damaged_report_or_gate_is_mended_by_the_same_command(damage: Callable[[Output], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = finished(Path(folder), gated=True)
        right = output.rows()
        damage(output)
        output.resume(max_failed=0)
        verified = verify_output(str(output.path))
        assert verified.problems == []
        assert verified.exit_code == (0 if output.is_marked else 3)
        assert output_status(str(output.path)).exit_code == verified.exit_code
        assert output.rows() == right
