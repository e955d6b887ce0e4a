"""Reports that no run of a test would come to, and what is read from their pages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from reranker_batch.core.counts import Counts
from reranker_batch.core.distribution import Distribution, Histogram
from reranker_batch.core.movement import Move, Movement
from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry, RunReport, UnitTime
from reranker_batch.core.reuse import ReuseCheck, ReuseRecord
from reranker_batch.core.throughput import Throughput
from reranker_batch.core.unit_summary import SCORE_EDGES, TOKEN_EDGES, DeadLetterExample
from reranker_batch.evaluation import compare_metrics

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; </bdi></title></style>",
    "\u202egnp.exe שלום مرحبا",
    "\ud800 \x00 \x1b[31m \u2028",
    "https://user:secret@host/x?sig=token",
    "x" * 100_000,
    "",
    "javascript:alert(1)",
    "🙂" * 5_000,
)


def histogram(edges: tuple[float, ...], size: int) -> Histogram:
    counts = tuple(size * (at % 7) for at in range(len(edges) + 1))
    return Distribution(edges, counts, size << 40).histogram()


def full_report(texts: tuple[str, ...] = ("a text",), *, units: int = 60_000, **changes: Any) -> RunReport:
    """A failed run with something in every field; `texts` stand wherever a text does."""

    def text(at: int) -> str:
        return texts[at % len(texts)]

    names = {f"{text(at)}{at}": at for at in range(300)}
    counts = Counts(queries=10**6, candidates=10**9, scored=10**9 - 10**6, truncated=5, dead_letters=names)
    part = PartEntry("u", 10, 10, "0" * 64, Counts())
    values: dict[str, Any] = {
        "status": "failed",
        "message": text(0),
        "output": text(1),
        "totals": counts,
        "units": units * 2,
        "units_published": units,
        "units_skipped": 0,
        "parts": [part] * units,
        "missing": [f"{text(at)}{at}" for at in range(min(units, 300))] + [f"{at:016}" for at in range(units)],
        "attempts": names,
        "oom_splits": 3,
        "computed_pairs": 10**9,
        "computed_tokens": 10**11,
        "finished_at": text(2),
        "wall_s": 123456.7,
        "step_s": {name: float(at) for name, at in names.items()},
        "replica_time": {"score": 0.7, "rescore": 0.01, "wait_for_input": 0.19, "transfer": 0.1},
        "executions": names,
        "replicas": 64,
        "versions": {f"{text(at)}{at}": text(at) for at in range(300)},
        "warnings": [text(at) for at in range(300)],
        "skipped_files": {f"{text(at)}{at}": text(at + 1) for at in range(300)},
        "precision": Precision(256, 0.01, 0.3, 0.002, 100, 3),
        "job": {
            "model": {"name": text(3), "revision": text(4), "recipe": text(5), "dtype": text(6)},
            "input": text(7),
            "engine": text(8),
            "limits": {f"{text(at)}{at}": text(at) for at in range(300)},
            "top_n": 10,
        },
        "histograms": {"relevance_score": histogram(SCORE_EDGES, 10**6), "pair_tokens": histogram(TOKEN_EDGES, 10**6)},
        "truncation": {"query": 1, "document": 2, "pair": 2},
        "dead_letter_examples": [
            DeadLetterExample(text(at), text(at + 1), at, text(at + 2), text(at + 3)) for at in range(300)
        ],
        "reuse": ReuseRecord(text(0), text(1), "", [text(2), text(3)], ReuseCheck(400, 0.001, 0.01, True)),
        "throughput": Throughput(4096.0, list(range(60))),
        "slowest_units": [UnitTime(text(at), at, float(at), at / 2) for at in range(300)],
    }
    return RunReport(**{**values, **changes})


def findings(texts: tuple[str, ...] = ("a text",)) -> dict[str, Any]:
    """What a comparison adds to a report."""
    moves = tuple(Move(texts[at % len(texts)], texts[-at % len(texts)], at + 2, 1) for at in range(20))
    places = Distribution(Movement().places.edges, tuple(range(len(Movement().places.edges) + 1)), 1 << 32)
    movement = Movement(queries=100, changed_queries=7, documents_in_both=50, places=places, largest_moves=moves)
    metrics = ("ndcg_at_10", "rr_at_10", "recall_at_10")
    before = {f"{texts[at % len(texts)]}{at}": dict.fromkeys(metrics, at / 99) for at in range(99)}
    after = {name: {metric: 1 - value for metric, value in of.items()} for name, of in before.items()}
    changes = {name: change.to_dict() for name, change in compare_metrics(before, after).items()}
    gate = {"key": texts[0], "limit": texts[-1], "value": 0.25, "is_met": False, "message": texts[0]}
    return {
        "movement": {"compared_with": texts[0], **movement.to_dict()},
        "movement_first_stage": movement.to_dict(),
        "metrics": {
            "qrels": texts[0],
            "compared_with": texts[-1],
            "queries": 99,
            "means": {"ndcg_at_10": 0.5},
            "since_earlier": changes,
            "since_first_stage": changes,
        },
        "gates": [gate, {**gate, "is_met": True}] * 2,
    }


@dataclass
class PageReader(HTMLParser):
    """What a page has in it: its elements, the numbers by their places in report.json, and the text."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    numbers: dict[str, str] = field(default_factory=dict)
    """By their places; each exact."""
    shown: dict[str, str] = field(default_factory=dict)
    text: str = ""
    open_: list[str] = field(default_factory=list)
    _place: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, content: bytes) -> PageReader:
        reader = cls()
        reader.feed(content.decode())
        reader.close()
        return reader

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag != "meta":
            self.open_.append(tag)
        if tag == "data" and (place := attributes.get("data-at")):
            self._place = place
            self.numbers[place] = str(attributes["value"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open_.pop() == tag
        self._place = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._place is not None:
            self.shown[self._place] = data


def at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def numbers_of(document: Any, pointer: str = "") -> set[str]:
    """The pointers of all numbers of a document."""
    if isinstance(document, dict):
        steps: list[tuple[Any, Any]] = list(document.items())
    elif isinstance(document, list):
        steps = list(enumerate(document))
    else:
        return {pointer} if isinstance(document, int | float) and not isinstance(document, bool) else set()
    inner = [(str(key).replace("~", "~0").replace("/", "~1"), value) for key, value in steps]
    return {name for key, value in inner for name in numbers_of(value, f"{pointer}/{key}")}


def as_json(report: RunReport, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps({**report.to_dict(), **more}))
    return values
