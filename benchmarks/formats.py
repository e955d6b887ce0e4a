"""Files that other tools wrote are scored by config alone, and other tools load our exports.

    python benchmarks/formats.py             # makes the environments that are not there yet; in minutes
    python benchmarks/formats.py beir mteb

Each tool writes small sets in its own layouts and says what has to come out; the job scores them with a scorer whose
right answers are known. Then an output with ties is exported in every format, and each tool loads what it can.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from layout_files import load, problems_of, read_expected, score  # noqa: E402
from peers import is_ready, python_of, set_up  # noqa: E402

from reranker_batch import export  # noqa: E402

SCRIPTS = ROOT / "benchmarks" / "formats"
ENVIRONMENTS = {
    "beir": "formats",
    "datasets": "formats",
    "ir_tools": "formats",
    "mteb": "formats",
    "sentence_transformers": "formats",
    "rank_llm": "rank-llm",
    "flagembedding": "flagembedding",
}
TIED = ["same", "other", "same", "same", "third", "other"]
EXPORTS = {"run.trec": "trec", "run.msmarco.tsv": "msmarco", "predictions.json": "mteb", "results.jsonl": "jsonl"}


def run_script(tool: str, *arguments: str) -> None:
    """Raises CalledProcessError when the tool refuses its own files or ours."""
    python = python_of(ENVIRONMENTS[tool])
    done = subprocess.run(
        [python, SCRIPTS / f"with_{tool}.py", *arguments], capture_output=True, text=True, check=False, cwd=SCRIPTS
    )
    if done.returncode:
        sys.stderr.write(done.stderr[-3000:])
        done.check_returncode()


def check_written(tool: str, folder: Path) -> list[str]:
    """Score what the tool wrote; a line for each layout."""
    run_script(tool, "write", str(folder / tool))
    lines = []
    for config in sorted((folder / tool).glob("*.yaml")):
        output = folder / "out" / tool / config.stem
        with chdir(config.with_suffix("")):
            problems = scored(config, output)
        lines.append(f"{tool:22} {config.stem:20} {problems or 'ok'}")
    return lines


def scored(config: Path, output: Path) -> list[str]:
    try:
        score(load(config, output))
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return problems_of(output, read_expected(config.with_suffix(".expected.json")))


def make_exports(folder: Path) -> dict[str, list[str]]:
    """Exports of an output with ties; the right order of the documents of each query."""
    folder.mkdir()
    rows = [
        {
            "query_id": f"q{row}",
            "query": f"query {row}",
            "candidates": [{"doc_id": f"d{at}", "text": text} for at, text in enumerate(TIED)],
        }
        for row in range(3)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "job.yaml").write_text(json.dumps({"input": {"path": str(folder / "in.jsonl")}}))
    score(load(folder / "job.yaml", folder / "out"))
    for file, name in EXPORTS.items():
        export(str(folder / "out"), str(folder / file), format=name)
    right: dict[str, list[str]] = {}
    for line in (folder / "run.msmarco.tsv").read_text().splitlines():
        query, document, _ = line.split("\t")
        right.setdefault(query, []).append(document)
    return right


def check_loaded(tool: str, exports: Path, right: dict[str, list[str]]) -> list[str]:
    """Let the tool load the exports; a line for each loader."""
    result = exports / f"{tool}.json"
    run_script(tool, "read", str(exports), str(result))
    loaded = json.loads(result.read_text())
    return [f"{tool:22} {name:20} {'ok' if order == right else order}" for name, order in loaded.items()]


def main(tools: list[str]) -> int:
    lines = []
    for environment in sorted({ENVIRONMENTS[tool] for tool in tools}):
        if not is_ready(environment):
            set_up(environment)
    with tempfile.TemporaryDirectory() as temporary:
        right = make_exports(Path(temporary) / "exports")
        for tool in tools:
            lines += [*check_written(tool, Path(temporary)), *check_loaded(tool, Path(temporary) / "exports", right)]
    print("\n".join(lines))
    return 0 if all(line.endswith(" ok") for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ENVIRONMENTS)))
