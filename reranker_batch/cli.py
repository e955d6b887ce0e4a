"""The `reranker-batch` command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from reranker_batch.config import JobConfig
from reranker_batch.core.limits import PROFILES
from reranker_batch.core.report import RunReport
from reranker_batch.errors import ConfigError, InputError, ModelError, RerankerBatchError

EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="reranker-batch",
    help="Rerank tables of queries and candidates with a cross-encoder: Parquet in, scored Parquet out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(help="YAML file with the settings; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override one setting; may be given many times."),
]


@app.command()
def run(config: ConfigPath, overrides: Overrides = None) -> None:
    """Run a job. The same command again resumes it, or finds it complete."""
    job_config = JobConfig.load(config, overrides=overrides or ())
    raise typer.Exit(run_and_summarize(job_config))


def run_and_summarize(job_config: JobConfig) -> int:
    """Run with a progress display and print the summary; the exit code of the run."""
    from reranker_batch.runtime import driver

    report = driver.run(job_config, show_progress=True)
    print_summary(report)
    return report.exit_code


@app.command()
def plan(config: ConfigPath, overrides: Overrides = None) -> None:
    """Say what a run would do: pairs, tokens, requests, cut texts, units. Reads footers and a sample, no weights."""
    from reranker_batch.runtime.estimate import estimate_job

    estimate = estimate_job(JobConfig.load(config, overrides=overrides or ()))
    _print_rows("Plan", estimate.rows_to_show())


@app.command()
def verify(output: Annotated[str, typer.Argument(help="The output.path of a finished run.")]) -> None:
    """Prove a finished output from its own record."""
    from reranker_batch.storage.verifying import verify_output

    found = verify_output(output)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    if not found.is_sound:
        print(f"{output}: {len(found.problems)} problems in {found.parts} parts", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"{output}: sound. {found.parts} parts, {found.rows:,} rows, {found.dead_letters:,} dead letters.")


@app.command()
def profiles() -> None:
    """List the limits profiles with their source and date."""
    table = Table("profile", "documents", "item tokens", "request tokens", "formula", "source", "as of")
    for profile in PROFILES.values():
        limits = profile.limits
        numbers = (limits.max_documents, limits.max_item_tokens, limits.max_request_tokens)
        shown = ["none" if number is None else f"{number:,}" for number in numbers]
        table.add_row(profile.name, *shown, limits.request_formula, profile.source, profile.as_of)
    Console().print(table)


@app.command()
def recipes() -> None:
    """List the model families that can be scored, each with its source."""
    from reranker_batch.model.recipes import RECIPES

    table = Table("recipe", "model types", "what it does", "source")
    for recipe in RECIPES.values():
        table.add_row(recipe.name, ", ".join(recipe.model_types), recipe.description, recipe.source)
    Console().print(table)


def print_summary(report: RunReport) -> None:
    """What a person wants to know after a run."""
    totals = report.totals
    rows = [
        ("output", report.output),
        ("status", f"{report.status}{': ' + report.message if report.message else ''}"),
        ("queries", f"{totals.queries:,} ({totals.failed_queries:,} failed)"),
        ("pairs", f"{totals.scored:,} scored of {totals.candidates:,}, {totals.kept:,} kept"),
        ("cut texts", f"{totals.truncated:,} pairs lost text to a limit"),
        ("requests", f"{totals.requests:,} with {totals.total_tokens:,} tokens"),
        ("dead letters", ", ".join(f"{count:,} {reason}" for reason, count in totals.dead_letters.items()) or "none"),
        ("units", f"{report.units_published:,} of {report.units:,}, {report.units_skipped:,} from an earlier attempt"),
    ]
    if report.computed_pairs:
        pace = report.computed_pairs / report.wall_s
        tokens = report.computed_tokens / report.wall_s
        rows.append(("time", f"{report.wall_s:,.1f} s, {pace:,.0f} pairs/s, {tokens:,.0f} tokens/s, start-up included"))
        rows.append(("steps", ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in report.step_s.items())))
    _print_rows("Run", rows)


def _print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def guarded(call: Callable[[], Any]) -> int:
    """Run `call` and turn every end of it into an exit code, errors of ours into one message without a traceback."""
    try:
        return int(call() or 0)
    except (ConfigError, InputError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except RerankerBatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED


def main() -> None:
    """Entry point of the console script."""
    logging.basicConfig(level=os.environ.get("RERANKER_BATCH_LOG", "WARNING"), format="%(levelname)s %(name)s: %(message)s")
    sys.exit(guarded(lambda: app(standalone_mode=False)))
