"""The `reranker-batch` command."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reranker_batch.config import JobConfig
from reranker_batch.config.config_file import ConfigFile
from reranker_batch.config.labels import LabelConfig
from reranker_batch.core.limits import PROFILES
from reranker_batch.errors import ConfigError, InputError, ModelError, RerankerBatchError, described
from reranker_batch.job.interrupts import terminate_as_interrupt
from reranker_batch.job.summary import summary_rows
from reranker_batch.printing import LEVEL_VARIABLE, complain, say, set_up_logging, show_rows
from reranker_batch.version import __version__

if TYPE_CHECKING:
    from reranker_batch.model.recipes import Recipe

logger = logging.getLogger(__name__)

EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="reranker-batch",
    help="Rerank tables of queries and candidates with a cross-encoder: Parquet in, scored Parquet out.",
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(help="YAML file with the settings; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be given many times."),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the config with all defaults and overrides; do nothing else.")
]


def guarded(call: Callable[..., int | None]) -> Callable[..., int]:
    """Turn every end of `call` into an exit code and every error into one message without a traceback.

    Logging is set up first; SIGTERM ends the call as Ctrl-C does.
    """

    @functools.wraps(call)
    def guard(*arguments: Any, **options: Any) -> int:
        try:
            set_up_logging()
            with terminate_as_interrupt():
                return call(*arguments, **options) or 0
        except SystemExit:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            return _exit_code_of(error)

    return guard


def _exit_code_of(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted: the same command goes on from here")
        return EXIT_INTERRUPTED
    if isinstance(error, RerankerBatchError):
        complain(f"error: {error}")
        # An error in the middle of a unit is no refusal: other parts may be published.
        is_refusal = isinstance(error, ConfigError | InputError | ModelError) and not error.unit_id
        return EXIT_REFUSED if is_refusal else EXIT_FAILED
    logger.debug("Where the unexpected error came from:", exc_info=error)
    complain(
        f"error: unexpected error: {described(error)}\nPlease report it. {LEVEL_VARIABLE}=DEBUG shows "
        "where it came from."
    )
    return EXIT_FAILED


def _command(call: Callable[..., int | None]) -> Callable[..., None]:
    """Register a command that ends with the exit code it gives."""

    @functools.wraps(call)
    def command(*arguments: Any, **options: Any) -> None:
        raise typer.Exit(guarded(call)(*arguments, **options))

    return app.command()(command)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        say(f"reranker-batch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


@_command
def run(config: ConfigPath, overrides: Overrides = None, print_config: PrintConfig = False) -> int:
    """Run a job. The same command again resumes it, or finds it complete.

    Exit code 0: complete. 1: failed. 2: refused, nothing was started. 3: too many dead letters. 4: a limit of gates is
    not met. 130: interrupted. Outputs of 3 and 4 are not served until `accept`.
    """
    job_config = JobConfig.load(config, overrides=overrides or ())
    return _show_config(job_config) if print_config else run_and_summarize(job_config)


def _show_config(config: ConfigFile) -> int:
    for line in config.to_yaml().splitlines():
        say(line)
    return 0


def run_and_summarize(job_config: JobConfig) -> int:
    """Run with a progress display and print the summary; the exit code of the run."""
    from reranker_batch.runtime import driver

    report = driver.run(job_config, show_progress=True)
    show_rows("Run", summary_rows(report))
    return report.exit_code


@_command
def init(
    path: Annotated[str, typer.Argument(help="A file, folder, glob or URI with queries and their documents.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The config to write; a new file.")] = Path("job.yaml"),
) -> None:
    """Look at a table and write a config that reads it, with what was seen and guessed as comments."""
    from reranker_batch.preparing.initial import write_first_config
    from reranker_batch.storage.files.places import check_access

    check_access(path)
    write_first_config(path, output)
    say(f"{output}: read its comments, set model.name and output.path, then: reranker-batch plan {output}")


@_command
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    pairs_per_second: Annotated[float | None, typer.Option(help="Expected pace, to estimate the time.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="OUTPUT", help="An earlier output, to take the pace from.")
    ] = None,
    print_config: PrintConfig = False,
) -> int:
    """Say what a run would do: pairs, tokens, requests, cut texts, units. Reads footers and a sample, no weights."""
    job_config = JobConfig.load(config, overrides=overrides or ())
    if print_config:
        return _show_config(job_config)
    from reranker_batch.job.estimate import estimate_job
    from reranker_batch.job.pace import pace_of

    estimate = estimate_job(job_config, pace=pace_of(job_config, pairs_per_s=pairs_per_second, like=like))
    if as_json:
        say(json.dumps(estimate.to_dict()))
    else:
        show_rows("Plan", estimate.rows_to_show())
    return 0


@_command
def prepare(config: ConfigPath, overrides: Overrides = None) -> int:
    """Join a run with its queries and its corpus, or group rows of pairs, as `prepare` in the config says.

    The result is ordinary input. `run` does this itself; the same command again finishes what was begun.
    """
    from reranker_batch.config.prepare_job import PrepareJob
    from reranker_batch.preparing.summary import summary_rows as prepared_rows
    from reranker_batch.runtime import driver

    job_config = PrepareJob.load(config, overrides=overrides or ())
    record = driver.prepare(job_config, show_progress=True)
    show_rows("Prepared", prepared_rows(record))
    return 0


@_command
def verify(
    output: Annotated[str, typer.Argument(help="The output.path of a finished run, or of labels.")],
    ray_address: Annotated[
        str | None, typer.Option(help="A cluster whose nodes read the parts, as runtime.ray_address.")
    ] = None,
) -> int:
    """Prove a finished output from its own record.

    Exit code 0: sound. 1: it is not what its record says. 3 or 4: sound, but gated, so it is not served. Of labels 1
    also if teachers, input or judgments have changed since.
    """
    from reranker_batch.runtime import driver
    from reranker_batch.storage.files.places import check_access

    check_access(output)
    verified = driver.verify(output, ray_address=ray_address)
    for problem in verified.problems:
        complain(problem)
    if not verified.is_sound:
        complain(f"{output}: {len(verified.problems):,} problems in {verified.parts:,} parts")
        return verified.exit_code
    say(f"{output}: {verified.shown}")
    for note in verified.notes:
        complain(f"{output}: {note}")
    return verified.exit_code


@_command
def status(
    output: Annotated[str, typer.Argument(help="The output.path of a run, or of labels.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with the exit code of the run.")] = False,
) -> int:
    """Say what became of a run: complete, accepted, too many failed, gated, failed, interrupted, running, no run.

    Exit code 0 only for an output that may be served (complete, accepted). 1: failed, or still running. 2: no run.
    3: too many failed. 4: gated. 130: interrupted, the same command resumes it. Labels are complete, running or
    interrupted.
    """
    from reranker_batch.runtime import driver
    from reranker_batch.storage.files.places import check_access

    check_access(output)
    current = driver.status(output)
    if as_json:
        say(json.dumps(current.to_dict()))
    else:
        say(f"{output}: {current.state.replace('_', ' ')}. {current.message}".rstrip(". ") + ".")
    return current.exit_code


@_command
def report(
    output: Annotated[str, typer.Argument(help="The output.path of a run that has ended.")],
    compare: Annotated[
        str | None, typer.Option(metavar="OUTPUT", help="A finished output: the page shows what moved since.")
    ] = None,
    qrels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Relevance judgments: TREC or Parquet. The page shows metrics.")
    ] = None,
) -> None:
    """Make OUTPUT/run/report.html again, from the record of the run."""
    from reranker_batch.page.publishing import make_page
    from reranker_batch.storage.files.places import check_access

    check_access(*(place for place in (output, compare, qrels) if place is not None))
    say(make_page(output, compare=compare, qrels=qrels))


@_command
def accept(
    output: Annotated[str, typer.Argument(help="The output.path of a run that ended with exit code 3 or 4.")],
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who accepts it; the user of the system.")] = None,
) -> None:
    """Let a gated output be served: verify it, record who accepts it and when, write scores/_SUCCESS."""
    from reranker_batch.page import publishing
    from reranker_batch.storage.files.places import check_access

    check_access(output)
    gate = publishing.accept(output, by=by)
    accepted = f"accepted by {gate.accepted.by} at {gate.accepted.at}" if gate.accepted else "accepted"
    say(f"{output}: {accepted} in spite of: {'; '.join(gate.reasons)}")


@_command
def redrive(
    output: Annotated[str, typer.Argument(help="The output.path of a finished run that has dead letters.")],
    target: Annotated[str, typer.Argument(help="A new folder for the input of a second run.")],
) -> None:
    """Turn dead letters into an input of the original layout, once their cause is fixed."""
    from reranker_batch.storage.files.places import check_access
    from reranker_batch.storage.output.redriving import redrive_output

    check_access(output, target)
    redriven = redrive_output(output, target)
    if not redriven.num_candidates:
        say(f"{output}: no dead letters, nothing was written.")
        return
    if not redriven.has_unique_places:
        complain("warning: query ids repeat, so the second result cannot be merged by them")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in redriven.reasons.items())
    say(f"{target}: {redriven.num_candidates:,} candidates ({reasons}). Score them with the same config and")
    settings = [f"input.path={target}", *redriven.overrides, "output.path=NEW"]
    say(f"  {' '.join(f'--set {setting}' for setting in settings)}, then merge as docs/usage.md shows.")


@_command
def export(
    output: Annotated[str, typer.Argument(help="The output.path of a complete or accepted run, or of labels.")],
    target: Annotated[
        str,
        typer.Argument(help="The file to write; .gz or .zst at its end compress it. A new folder for a training set."),
    ],
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="trec, msmarco, mteb or jsonl. Of labels: trec, mteb, st-pair, st-labeled-pair, st-triplet, "
            "st-n-tuple, st-list, flagembedding, ms-swift or tevatron.",
        ),
    ],
    tag: Annotated[str | None, typer.Option(help="trec: the name of the run.")] = None,
    subset: Annotated[str | None, typer.Option(help="mteb: the subset of the task; default.")] = None,
    split: Annotated[str | None, typer.Option(help="mteb: the split of the task; test.")] = None,
) -> None:
    """Write the results of an output, or labels, in a format that evaluation tools or trainers read."""
    from reranker_batch.exporting.export import export as export_output
    from reranker_batch.storage.files.places import check_access

    check_access(output, target)
    exported = export_output(output, target, format=file_format, tag=tag, subset=subset, split=split)
    for number, what in (
        (exported.repeated_queries, "rows have the query id of an earlier row, which is the one that is written"),
        (exported.repeated_documents, "times a document was already in the list of its query: its best place counts"),
        (exported.empty_queries, "queries have no results and are not in the file"),
        *((number, f"queries are left out: {reason}") for reason, number in exported.left_out.items()),
    ):
        if number:
            complain(f"warning: {number:,} {what}")
    say(f"{target}: {exported.shown}.")


@_command
def label(config: ConfigPath, overrides: Overrides = None, print_config: PrintConfig = False) -> int:
    """Make training labels of the scores of teachers. The same command again resumes, or finds them complete.

    Teachers that have a config and are not finished run first. Exit code 0: complete. 1: failed, or a teacher is gated
    and must be accepted first. 2: refused, nothing was started. 130: interrupted.
    """
    label_config = LabelConfig.load(config, overrides=overrides or ())
    return _show_config(label_config) if print_config else label_and_summarize(label_config)


def label_and_summarize(label_config: LabelConfig) -> int:
    """Make labels with a progress display and print what became of the candidates."""
    from reranker_batch.runtime.labelling import label as make_labels

    show_rows("Labels", make_labels(label_config, show_progress=True).rows_to_show)
    return 0


@_command
def clean(
    folder: Annotated[str, typer.Argument(help="The folder that holds the outputs of all nights of one job.")],
    keep: Annotated[int, typer.Option(metavar="N", help="Complete outputs that stay: the newest.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> int:
    """Delete the outputs below FOLDER that are older than its N newest complete ones.

    Never one that runs, that an unfinished run still reuses, or that holds files of others (exit code 1).
    """
    from reranker_batch.storage.files.places import check_access
    from reranker_batch.storage.output.cleaning import clean_outputs

    check_access(folder)
    cleaned = clean_outputs(folder, keep=keep, dry_run=dry_run)
    for output in cleaned.deleted:
        say(f"{'would delete' if dry_run else 'deleted'} {output}")
    for output, why in cleaned.kept.items():
        say(f"kept {output}: {why}")
    for output, why in cleaned.refused.items():
        complain(f"not deleted: {output}: {why}")
    return EXIT_FAILED if cleaned.refused else 0


@_command
def profiles() -> None:
    """List the limits profiles with their source and date."""
    for profile in PROFILES.values():
        limits = {name: value for name, value in asdict(profile.limits).items() if value is not None}
        rows = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in limits.items()]
        show_rows(profile.name, [*rows, ("source", profile.source), ("as of", profile.as_of)])


@_command
def recipes(
    check: Annotated[str | None, typer.Option(metavar="MODEL", help="Try a model: a folder or a hub id.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of a hub model.")] = None,
    recipe: Annotated[str, typer.Option(help="As model.recipe.")] = "auto",
    instruct: Annotated[str | None, typer.Option(help="As model.instruct.")] = None,
    positive_label: Annotated[str | None, typer.Option(help="As model.positive_label.")] = None,
) -> int:
    """List the model families that can be scored, each with its source; or show how one model would be, and try it."""
    if check is not None:
        return _check_model(check, revision, recipe, instruct, positive_label)
    from reranker_batch.model.recipes import INSTRUCTS, RECIPES

    for item in RECIPES.values():
        show_rows(item.name, _about_recipe(item))
    show_rows("Named instructions (model.instruct)", list(INSTRUCTS.items()))
    return 0


def _check_model(name: str, revision: str | None, recipe: str, instruct: str | None, positive_label: str | None) -> int:
    from reranker_batch.model.checks.inspection import explain_model
    from reranker_batch.storage.files.fetching import copy_folder

    positive = int(positive_label) if positive_label and positive_label.isdecimal() else positive_label
    inspection = explain_model(
        name, revision=revision, recipe=recipe, instruct=instruct, positive=positive, copy_folder=copy_folder
    )
    show_rows(name, inspection.rows)
    if inspection.refusal is not None:
        raise inspection.refusal
    return 0 if inspection.agrees else EXIT_FAILED


def _about_recipe(recipe: Recipe) -> list[tuple[str, str]]:
    model_types = recipe.converted_from or ", ".join(sorted(recipe.model_types))
    instruct = recipe.resolved_instruct or ("taken, none by default" if recipe.uses_instruct else "not taken")
    return [
        ("what it does", recipe.description),
        ("for example", "\n".join(recipe.examples)),
        ("model types", model_types),
        ("instruction", instruct),
        ("relevance_score", str(recipe.activation)),
        ("tokens of a pair", f"{recipe.max_tokens:,}" if recipe.max_tokens else "the model's own maximum"),
        ("source", recipe.source),
    ]


def run_command(arguments: Sequence[str]) -> int:
    """The command with these arguments; its exit code. A wrong use is one message, as every other error."""
    try:
        return int(app(args=list(arguments) or ["--help"], prog_name="reranker-batch", standalone_mode=False) or 0)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own class for a wrong use has moved between its versions
            return _exit_code_of(error)
        complain(f"error: {error.format_message().rstrip('.')}. See reranker-batch --help.")
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
