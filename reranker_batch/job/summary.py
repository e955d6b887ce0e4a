"""What a person sees of a report at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reranker_batch.core.counts import Counts
from reranker_batch.core.gates import MAX_FAILED, GateResult
from reranker_batch.core.precision import Precision
from reranker_batch.core.report import RunReport
from reranker_batch.printing import listed

_ACTIVITIES = {
    "score": "computing",
    "rescore": "scoring the sample again",
    "wait_for_input": "waiting for input",
    "transfer": "between units",
}


def summary_rows(report: RunReport) -> list[tuple[str, str]]:
    """What a person wants to know after a run."""
    totals = report.totals
    rows = [
        ("output", report.output),
        ("status", f"{report.status}{': ' + report.message if report.message else ''}"),
        ("queries", f"{totals.queries:,} ({totals.failed_queries:,} failed)"),
        ("pairs", f"{totals.scored:,} scored of {totals.candidates:,}, {totals.kept:,} kept"),
        *([("reused", _reused(report))] if report.reuse is not None else []),
        ("cut texts", f"{totals.truncated:,} pairs lost text to a limit"),
        *([("long documents", _split(totals))] if totals.split else []),
        ("requests", f"{totals.requests:,} with {totals.total_tokens:,} tokens"),
        ("dead letters", ", ".join(f"{count:,} {reason}" for reason, count in totals.dead_letters.items()) or "none"),
        *([("warnings", "\n".join(report.warnings))] if report.warnings else []),
        *([("skipped files", "\n".join(report.skipped_files.values()))] if report.skipped_files else []),
        ("units", f"{report.units_published:,} of {report.units:,}, {report.units_skipped:,} from an earlier attempt"),
        *([("tried again", _attempts(report))] if report.attempts else []),
        *([("memory", f"{report.oom_splits:,} micro-batches halved: memory ran short")] if report.oom_splits else []),
    ]
    if (precision := report.precision) is not None:
        rows.append(("precision", _precision(precision)))
    rows += _findings(report)
    if report.computed_pairs:
        pace = report.computed_pairs / report.wall_s
        tokens = report.computed_tokens / report.wall_s
        rows.append(("time", f"{report.wall_s:,.1f} s, {pace:,.0f} pairs/s, {tokens:,.0f} tokens/s, start-up included"))
        rows.append(("scored by", ", ".join(report.executions)))
        shares = ", ".join(f"{share:.1%} {_ACTIVITIES[name]}" for name, share in report.replica_time.items())
        rows.append(("replicas", f"{report.replicas}: {shares}"))
    return rows


def _split(totals: Counts) -> str:
    unread = f", {totals.split_not_all_read:,} of them not to their end" if totals.split_not_all_read else ""
    best = f"{totals.best_chunk_not_first:,} are best in a later chunk than the first"
    return f"{totals.split:,} read in chunks{unread}; {best}"


def _findings(report: RunReport) -> list[tuple[str, str]]:
    """What moved, how good the rankings are, and the limits that are set."""
    movements = {"first stage": report.movement_first_stage, "earlier": report.movement}
    rows = [(f"moved since {name}", _movement(moved)) for name, moved in movements.items() if moved is not None]
    if (metrics := report.metrics) is not None:
        rows.append(("metrics", _metrics(metrics)))
    gates = [gate for gate in report.gates if gate.key != MAX_FAILED]
    return [*rows, *([("gates", "\n".join(map(_gate, gates)))] if gates else [])]


def _movement(movement: Mapping[str, Any]) -> str:
    queries, name = movement["queries"], movement.get("compared_with")
    end = "" if name is None else f": {name}"
    if not queries:
        return f"no query to compare{end}"
    overlap, changed = movement["overlap_at_10"]["mean"], movement["changed_queries"]
    return f"{changed:,} of {queries:,} queries changed in their first ten, mean overlap {overlap:.3f}{end}"


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics["queries"]:
        return f"no query is judged by {metrics['qrels']}"
    change = (metrics["since_earlier"] or metrics["since_first_stage"] or {}).get("ndcg_at_10")
    since = "earlier" if metrics["since_earlier"] else "first stage"
    was = "" if change is None else f" ({since}: {change['before']:.4f} to {change['after']:.4f})"
    return f"nDCG@10 {metrics['means']['ndcg_at_10']:.4f}{was}, {metrics['queries']:,} judged queries"


def _gate(gate: GateResult) -> str:
    seen = gate.message if gate.value is None else f"seen: {gate.value:.6g}"
    return f"{'met' if gate.is_met else 'NOT met'}: {gate.key}={gate.limit} ({seen})"


def _reused(report: RunReport) -> str:
    reuse, totals = report.reuse, report.totals
    assert reuse is not None
    if reuse.refused:
        return f"none of {reuse.source or reuse.asked}: {' '.join(reuse.refused)}"
    share = f"{report.reused_share:.1%} of the pairs, " if report.reused_share is not None else ""
    check = f"; {reuse.check}" if reuse.check is not None else ""
    return f"{totals.reused:,} scores, {share}from {reuse.source}{check}"


def _attempts(report: RunReport) -> str:
    """Units that took more than one, the most stubborn first."""
    attempts = sorted(report.attempts.items(), key=lambda unit: (-unit[1], unit[0]))
    shown = listed([f"{unit_id} ({number} attempts)" for unit_id, number in attempts])
    return f"{len(attempts):,} of {report.units:,} units: {shown}"


def _precision(precision: Precision) -> str:
    largest, mean = precision.max_logit_difference, precision.mean_logit_difference
    return (
        f"{precision.pairs:,} pairs scored again in float32, one at a time: logits differ by {largest:.2g} at most, "
        f"{mean:.2g} on average; {precision.changed_places:,} of {precision.places:,} places change"
    )
