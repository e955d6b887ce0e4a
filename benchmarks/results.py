"""What a benchmark measured, as JSON, as Markdown and as a plot.

    python benchmarks/results.py out/bench/results.json --page docs/benchmarks.md --name cpu

writes the tables of such a file (or of job.json) between the marks `<!-- cpu -->` and `<!-- /cpu -->` of a page, and
the plot beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

Case = Mapping[str, Any]
COLUMNS = (
    "entry",
    "pairs/s",
    "tokens/s",
    "x first: median",
    "least",
    "share of peak",
    "padding",
    "difference",
    "in std",
    "top 10",
    "memory",
)


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json, results.md and results.svg into a folder, over those of before."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    (folder / "results.svg").write_text(plot(results["cases"]), encoding="utf-8")


def write_job(results: Mapping[str, Any], folder: Path) -> None:
    """Write job.json and job.md, what the whole job measured."""
    (folder / "job.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "job.md").write_text(job_markdown(results), encoding="utf-8")


# --- figures ---------------------------------------------------------------------------------------


def ratios(case: Case, name: str, reference: str) -> list[float]:
    """How many times as fast as the reference, round by round."""
    times = case["entries"]
    pairs = zip(times[reference]["seconds"], times[name]["seconds"], strict=True)
    return [theirs / own for theirs, own in pairs]


def pace(case: Case, name: str) -> float:
    """Pairs a second, by the median round."""
    return float(case["pairs"] / median(case["entries"][name]["seconds"]))


def share_of_peak(case: Case, name: str) -> float | None:
    """Useful work a second over what a matrix product alone got in the same run and precision, at its best."""
    dtype = name.split(":")[1]
    peaks = case["peaks"].get(dtype)
    if not peaks:
        return None
    return float(case["flops"] / median(case["entries"][name]["seconds"]) / max(peaks))


def padding(case: Case, name: str) -> float | None:
    """Share of the computed tokens that belong to no pair."""
    computed = case["entries"][name].get("computed_tokens")
    return None if computed is None else max(0.0, 1 - case["tokens"] / computed)


# --- Markdown --------------------------------------------------------------------------------------


def markdown(results: Mapping[str, Any]) -> str:
    """All tables of a run."""
    return "\n\n".join([machine_line(results), *(case_section(case) for case in results["cases"])]) + "\n"


def machine_line(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    versions = versions_of(results["cases"])
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"{machine['device']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['date']}; {named}. "
        f"{results['settings']['rounds']} rounds."
    )


def versions_of(cases: Iterable[Case]) -> dict[str, str]:
    """Versions of the libraries; where environments differ, all of them."""
    found: dict[str, set[str]] = {}
    for case in cases:
        for entry in case["entries"].values():
            for name, version in entry["versions"].items():
                found.setdefault(name, set()).add(version)
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def case_section(case: Case) -> str:
    """One model on one workload: everybody's figures, ours against each, and who is missing."""
    names = list(case["entries"])
    title = f"### {case['model']}, {case['workload']}: {case['pairs']:,} pairs, {case['tokens']:,} tokens"
    peaks = ", ".join(f"{dtype} {max(rates) / 1e9:,.0f} GFLOP/s" for dtype, rates in case["peaks"].items() if rates)
    parts = [title, f"Matrix product alone, at its best: {peaks}." if peaks else ""]
    if names:
        parts += [table(COLUMNS, [row_of(case, name, names[0]) for name in names]), versus(case)]
    parts += [f"Left out: `{name}`: {reason}" for name, reason in case["left_out"].items()]
    return "\n\n".join(part for part in parts if part)


def row_of(case: Case, name: str, reference: str) -> list[str]:
    entry, rates = case["entries"][name], ratios(case, name, reference)
    batch = f", {entry['batch']} a batch" if entry.get("batch") else ""
    return [
        f"`{name}`{batch}",
        f"{pace(case, name):,.1f}",
        f"{case['tokens'] / median(entry['seconds']):,.0f}",
        f"{median(rates):.2f}",
        f"{min(rates):.2f}",
        percent(share_of_peak(case, name)),
        percent(padding(case, name)),
        number(entry.get("largest_difference"), ".1e"),
        number(entry.get("largest_difference_in_std"), ".3f"),
        number(entry.get("top10_overlap"), ".3f"),
        f"{entry['peak_memory_bytes'] / 2**30:.1f} GiB",
    ]


def versus(case: Case) -> str:
    """How many times as fast each of ours is as each of the others: median of the rounds, and the least."""
    names = list(case["entries"])
    ours = [name for name in names if name.startswith("ours:")]
    rows = [
        [
            f"`{other}`",
            *(f"{median(rates):.2f} ({min(rates):.2f})" for rates in (ratios(case, own, other) for own in ours)),
        ]
        for other in names
        if other not in ours
    ]
    return (
        table([f"{case['model']} {case['workload']}: ours over", *(f"`{own}`" for own in ours)], rows)
        if rows and ours
        else ""
    )


def job_markdown(results: Mapping[str, Any]) -> str:
    """Wall time of each job on each input, then what is left of it without the start."""
    inputs, settings = results["inputs"], results["settings"]
    machine = results["machine"]
    jobs = [job for job in settings["jobs"] if job not in results["left_out"]]
    title = (
        f"{machine['device']}, {machine['cores']} cores, {machine['date']}; {settings['model']}, "
        f"{settings['workload']}, {settings['dtype']}, {settings['rounds']} rounds, medians."
    )
    largest = list(inputs)[-1]
    scorer = inputs["1x"]["pairs"] / median(inputs["1x"]["seconds"]["scorer"])
    head = [
        "job",
        *(f"{name}: {one['pairs']:,} pairs" for name, one in inputs.items()),
        f"pairs/s, {largest}, without start",
        "of the scorer alone",
        f"time a token, {largest} / 1x",
        "peak memory, 1x",
        largest,
    ]
    rows = [job_row(inputs, job, largest, scorer) for job in jobs]
    scripts = [
        [f"`{job}`", f"{wall:.2f}", f"{pace:.2f}"]
        for job in jobs
        if job != "ours" and "ours" in jobs
        for wall, pace in [job_ratio(inputs, job, largest)]
    ]
    parts = [title, table(head, rows), f"Scorer alone: {scorer:,.1f} pairs/s."]
    parts += [table([f"ours over, {largest}", "wall time", "without start"], scripts)] if scripts else []
    parts += [f"Left out: `{job}`: {reason}" for job, reason in results["left_out"].items()]
    return "\n\n".join(parts) + "\n"


def job_row(inputs: Mapping[str, Any], job: str, largest: str, scorer: float) -> list[str]:
    pace = median(job_paces(inputs, job, largest, "pairs"))
    grown = [
        small / large
        for small, large in zip(
            job_paces(inputs, job, "1x", "tokens"), job_paces(inputs, job, largest, "tokens"), strict=True
        )
    ]
    return [
        f"`{job}`",
        *(f"{median(one['seconds'][job]):,.1f} s" for one in inputs.values()),
        f"{pace:,.1f}",
        f"{pace / scorer:.2f}",
        f"{median(grown):.3f}",
        *(f"{max(inputs[name]['memory_bytes'][job]) / 2**30:.1f} GiB" for name in ("1x", largest)),
    ]


def job_paces(inputs: Mapping[str, Any], job: str, name: str, unit: str) -> list[float]:
    """Pairs or tokens a second, round by round, of what an input has more than the one that only starts the job."""
    start, one = inputs["start"], inputs[name]
    more = one[unit] - start[unit]
    base = min(start["seconds"][job])  # what else the machine does can only add to it
    return [more / (seconds - base) for seconds in one["seconds"][job]]


def job_ratio(inputs: Mapping[str, Any], job: str, name: str) -> tuple[float, float]:
    """How many times as fast ours is: by wall time, and without the start; medians of the rounds."""
    seconds = inputs[name]["seconds"]
    walls = [theirs / own for theirs, own in zip(seconds[job], seconds["ours"], strict=True)]
    paces = zip(job_paces(inputs, "ours", name, "pairs"), job_paces(inputs, job, name, "pairs"), strict=True)
    return median(walls), median(own / theirs for own, theirs in paces)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float | None) -> str:
    return number(value, ".0%")


def number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


# --- plot ------------------------------------------------------------------------------------------

WIDTH, LABEL, BAR, GAP = 860, 250, 18, 6


def plot(cases: Sequence[Case]) -> str:
    """Pairs a second of everybody, one block of bars a case, as SVG."""
    parts, y = [], 10
    for case in cases:
        names = sorted(case["entries"], key=lambda name: -pace(case, name))
        parts.append(_text(10, y + BAR - 5, f"{case['model']}, {case['workload']}: pairs/s", weight="bold"))
        y += BAR + GAP
        longest = max((pace(case, name) for name in names), default=1.0)
        for name in names:
            length = (WIDTH - LABEL - 90) * pace(case, name) / longest
            colour = "#1f6f8b" if name.startswith("ours:") else "#b8b8b8"
            parts.append(_text(LABEL - 8, y + BAR - 5, name, anchor="end"))
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(_text(LABEL + length + 6, y + BAR - 5, f"{pace(case, name):,.1f}"))
            y += BAR + GAP
        y += 2 * GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'


# --- pages -----------------------------------------------------------------------------------------


def fill(page: str, name: str, content: str) -> str:
    """The page with what stands between its two marks replaced.

    Raises:
        ValueError: The page has no such marks.
    """
    marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"The page has no <!-- {name} --> and <!-- /{name} -->.")
    return marks.sub(lambda found: f"{found[1]}\n{content.strip()}\n\n{found[2]}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.json or job.json")
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--name", required=True, help="what the marks in the page are called")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    if "inputs" in results:
        content = job_markdown(results)
    else:
        picture = arguments.page.with_name(f"benchmarks-{arguments.name}.svg")
        picture.write_text(plot(results["cases"]), encoding="utf-8")
        content = f"![pairs a second]({picture.name})\n\n{markdown(results)}"
    page = fill(arguments.page.read_text(encoding="utf-8"), arguments.name, content)
    arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
