"""run/report.html: what it shows is what run/report.json says, whatever stands in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from engine import HashScorer, SmallJob
from outputs import finished
from page.made_up import HOSTILE, PageReader, as_json, at, findings, full_report, numbers_of
from tables import nested_table, random_groups, write
from typer.testing import CliRunner

from reranker_batch import accept
from reranker_batch.cli import app
from reranker_batch.core.counts import Counts
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.report import RunReport
from reranker_batch.errors import CommitError, ConfigError, RerankerBatchError
from reranker_batch.page.document import MAX_BYTES, POLICY, page_of
from reranker_batch.page.publishing import make_page
from reranker_batch.storage.output.gate import Acceptance, Gate
from reranker_batch.storage.output.lock import hold_lock

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NOT_SHOWN = ("/parts/", "/precision/sum_logit_difference", "/totals/reused", "/reuse/check/")
"""Records of single parts, a sum whose mean is shown, and values that the report has twice."""
EMPTY = ("/histograms/", "/truncation/", "/throughput/", "/computed_")


class FailingScorer(HashScorer):
    """Fails at its second unit."""

    calls = 0

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        self.calls += 1
        if self.calls > 1:
            raise ConfigError("the <model> is gone")
        return super().score(inputs, **options)


class StoppedScorer(HashScorer):
    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        raise KeyboardInterrupt


def check(content: bytes, report: dict[str, Any]) -> PageReader:
    """A page that is sound by itself, whose numbers are those of the report."""
    assert len(content) <= MAX_BYTES
    page = PageReader.of(content)
    assert page.open_ == []
    assert {name for name, _ in page.elements}.isdisjoint({"script", "img", "link", "iframe", "a", "object", "form"})
    names = {name for _, attributes in page.elements for name in attributes}
    assert not any(name.startswith("on") or name in ("src", "href") for name in names)
    policies = [attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes]
    assert policies == [POLICY]
    for pointer, value in page.numbers.items():
        assert float(value) == at(report, pointer), pointer
    return page


def check_complete(page: PageReader, report: dict[str, Any]) -> None:
    """Every number of the report stands in the page, but for those of the parts and for charts without a value."""
    left = {name for name in numbers_of(report) - page.numbers.keys() if not name.startswith(NOT_SHOWN)}
    left = {name for name in left if "/edges/" not in name and not is_of_nothing(report, name)}
    if report["reuse"] is None:
        left -= {"/reused", "/rescored"}
    is_empty = not any(report["histograms"]["relevance_score"]["counts"])
    assert {name for name in left if not (is_empty and name.startswith(EMPTY))} == set()


def is_of_nothing(report: dict[str, Any], pointer: str) -> bool:
    """Whether a number is one of a histogram that counts nothing, or of a movement that compares nothing."""
    steps = pointer.split("/")[1:]
    if steps[0].startswith("movement") and not report[steps[0]]["queries"]:
        return True
    parents = ["/" + "/".join(steps[:length]) for length in range(1, len(steps))]
    return any(isinstance(at(report, name), dict) and at(report, name).get("count") == 0 for name in parents)


def page_and_report(output: Path) -> tuple[bytes, dict[str, Any]]:
    run = output / "run"
    return (run / "report.html").read_bytes(), json.loads((run / "report.json").read_text(encoding="utf-8"))


def job(folder: Path, *, groups: int = 9, **options: Any) -> SmallJob:
    write(nested_table(random_groups(groups, max_candidates=5, seed=3)), folder / "in.parquet")
    return SmallJob(str(folder / "in.parquet"), str(folder / "out"), unit_pairs=8, **options)


def test_the_page_of_a_finished_run_has_every_number_of_its_report(tmp_path: Path) -> None:
    output = finished(tmp_path)
    content, report = page_and_report(output.path)
    page = check(content, report)
    check_complete(page, report)
    assert page.shown["/totals/scored"] == f"{report['totals']['scored']:,}"
    assert "Complete" in page.text
    assert "non_finite_score" in page.text


def test_a_made_up_report_has_every_number_too() -> None:
    """With lists so short that all of them are shown, and without the histograms that have no value."""
    few = dict.fromkeys(("a", "b/c", "~d", "e f"), 1)
    short: dict[str, Any] = dict.fromkeys(("executions", "attempts", "step_s"), few)
    totals = Counts(3, 70, 66, 50, requests=4, total_tokens=5, model_tokens=6, dead_letters=few)
    made = full_report(units=0, **short, totals=totals)
    examples, slowest = made.dead_letter_examples[:5], made.slowest_units[:10]
    report = as_json(replace(made, dead_letter_examples=examples, slowest_units=slowest), **findings())
    left = numbers_of(report) - check(page_of(report), report).numbers.keys()
    left = {name for name in left if not name.startswith(NOT_SHOWN)}
    hidden = re.compile(r".*/edges/|/metrics/\w+/\w+/queries")
    assert {name for name in left if not hidden.match(name) and not is_of_nothing(report, name)} == set()


@pytest.mark.parametrize(
    ("scorer", "error", "status", "said"),
    [
        (FailingScorer(), RerankerBatchError, "failed", "the <model> is gone"),
        (StoppedScorer(), KeyboardInterrupt, "interrupted", "The same command resumes it."),
    ],
)
def test_a_run_that_ends_early_has_a_page(
    tmp_path: Path, scorer: HashScorer, error: type[BaseException], status: str, said: str
) -> None:
    small = job(tmp_path)
    with pytest.raises(error):
        small.run(scorer)
    content, report = page_and_report(tmp_path / "out")
    assert report["status"] == status
    page = check(content, report)
    assert said in page.text
    assert "Missing units" in page.text
    assert report["missing"][0] in page.text
    small.run()
    content, report = page_and_report(tmp_path / "out")
    assert "Missing units" not in check(content, report).text


def test_an_empty_input_has_a_page(tmp_path: Path) -> None:
    job(tmp_path, groups=0).run()
    check_complete(check(*page_and_report(tmp_path / "out")), page_and_report(tmp_path / "out")[1])


def test_a_gated_run_says_why_and_an_accepted_one_by_whom(tmp_path: Path) -> None:
    output = finished(tmp_path, gated=True)
    content, report = page_and_report(output.path)
    text = check(content, report).text
    assert "Too many dead letters" in text
    assert report["message"] in text
    accept(str(output.path), by="<Ada>")
    text = check(*page_and_report(output.path)).text
    assert "Accepted by <Ada> at 20" in text
    assert report["message"] in text


def test_the_same_command_leaves_the_page_as_it_is_and_makes_one_that_is_gone(tmp_path: Path) -> None:
    output = finished(tmp_path)
    page = output.run / "report.html"
    before = page.stat().st_mtime_ns, page.read_bytes()
    output.resume()
    assert (page.stat().st_mtime_ns, page.read_bytes()) == before
    page.unlink()
    output.resume()
    assert page.read_bytes() == before[1]


def test_a_page_that_cannot_be_written_fails_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = job(tmp_path)
    small.run()
    (tmp_path / "out" / "run" / "report.html").unlink()
    (tmp_path / "out" / "run" / "report.html" / "in the way").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert small.run().exit_code == 0
    assert "There is no page of this run" in caplog.text
    assert (tmp_path / "out" / "scores" / "_SUCCESS").exists()


@pytest.mark.parametrize("texts", [("a text",), HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("units", [0, 60_000])
def test_a_page_is_small_and_shows_texts_as_texts(texts: tuple[str, ...], units: int) -> None:
    report = as_json(full_report(texts, units=units), **findings(texts))
    gate = Gate(3, [texts[0]], Acceptance(texts[0], texts[-1]))
    page = check(page_of(report, gate), report)
    assert texts[0][:20] in page.text
    assert not any(mark in page.text for mark in "\u202e\x00\x1b\u2028\ud800")
    assert "secret" not in page.text


def test_the_command_makes_the_page_again(tmp_path: Path) -> None:
    output = finished(tmp_path)
    page = output.run / "report.html"
    before = page.read_bytes()
    page.write_text("changed")
    shown = CliRunner().invoke(app, ["report", str(output.path)])
    assert (shown.exit_code, shown.stdout.strip()) == (0, str(page))
    assert page.read_bytes() == before
    assert not (output.run / "staging").exists()


def test_the_command_compares_with_another_output_and_with_judgments(tmp_path: Path) -> None:
    """The two outputs have the same rows but for one query, whose order is turned around."""
    output = finished(tmp_path / "one")
    groups = random_groups(9, max_candidates=5, seed=3)
    changed = [(query_id, query + "!" if query_id == "q1" else query, found) for query_id, query, found in groups]
    write(nested_table(changed), tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "other"), unit_pairs=8).run()
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("".join(f"{query_id} 0 {found[0][0]} 1\n" for query_id, _, found in groups if found))
    report = page_and_report(output.path)[1]
    command = ["report", str(output.path), "--compare", str(tmp_path / "other"), "--qrels", str(qrels)]
    assert CliRunner().invoke(app, command).exit_code == 0
    page = PageReader.of((output.run / "report.html").read_bytes())
    assert int(page.numbers["/movement/queries"]) > 0
    assert "/metrics/since_earlier/ndcg_at_10/before" in page.numbers
    assert page_and_report(output.path)[1] == report
    output.resume()
    assert "/movement/queries" not in PageReader.of((output.run / "report.html").read_bytes()).numbers


def test_what_has_no_report_has_no_page(tmp_path: Path) -> None:
    output = finished(tmp_path)
    with pytest.raises(ConfigError, match=r"no run/report.json"):
        make_page(str(tmp_path))
    with pytest.raises(ConfigError, match="only finished outputs are compared"):
        make_page(str(output.path), compare=str(tmp_path))
    with hold_lock(output.state.output), pytest.raises(ConfigError, match="output"):
        make_page(str(output.path))
    (output.run / "lock.7").write_text("{}")
    with pytest.raises(RerankerBatchError, match="killed|lock"):
        make_page(str(output.path))


def test_values_that_no_run_writes_are_one_message(tmp_path: Path) -> None:
    output = finished(tmp_path)
    path = output.run / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    report["histograms"]["relevance_score"]["edges"] = [1.0]
    path.write_text(json.dumps(report))
    with pytest.raises(CommitError, match="values that this program does not write"):
        make_page(str(output.path))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        yield page


PAGES: dict[str, Any] = {
    "finished": None,
    "plain": lambda: (full_report(), findings()),
    "hostile": lambda: (full_report(HOSTILE), findings(HOSTILE)),
    "empty": lambda: (RunReport(**{**vars(full_report(units=0)), "status": "interrupted"}), {}),
}


@needs_browser
@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_the_numbers_and_nothing_is_too_wide(name: str, chromium: Page, tmp_path: Path) -> None:
    """At the widths of a phone and of a desk, light and dark. Details are opened."""
    if name == "finished":
        path = finished(tmp_path).run / "report.html"
        report = page_and_report(tmp_path / "out")[1]
    else:
        made, more = PAGES[name]()
        report = as_json(made, **more)
        path = tmp_path / "report.html"
        path.write_bytes(page_of(report))
    chromium.open(path)
    numbers = chromium.evaluate(
        "Object.fromEntries([...document.querySelectorAll('data[data-at]')].map(e => [e.dataset.at, e.value]))"
    )
    assert numbers == PageReader.of(path.read_bytes()).numbers
    assert all(float(value) == at(report, pointer) for pointer, value in numbers.items())
    chromium.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    grounds = set()
    for width in (360, 1280):
        for is_dark in (False, True):
            chromium.look(width=width, is_dark=is_dark)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width
            grounds.add(chromium.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    assert chromium.requests == [path.as_uri()]
    assert chromium.complaints == []
