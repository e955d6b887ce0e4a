"""A task has no more in memory than its share, however large both sides are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from references import Reference

from reranker_batch.job import processes

LIMIT = 480 << 20
"""Addresses of a process, of which Python and Arrow take 300 MiB."""
DRIVER = """
import resource, sys
from pathlib import Path
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.job.processes import in_this_process
from reranker_batch.preparing.joining.join import prepare_reference
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
places = {name: str(folder / f"{name}.jsonl") for name in ("run", "queries", "corpus")}
record = prepare_reference(PrepareConfig(**places), str(folder / "out"), in_this_process)
print(record.counts.candidates)
"""


def test_both_sides_are_larger_than_the_memory(tmp_path: Path) -> None:
    """65,000 candidates of 3,000 characters come out, of a corpus of 197 MB."""
    rows = [(f"q{at % 300}", f"d{at * 7 % 65_000}", float(at)) for at in range(65_000)]
    texts = {f"d{at}": f"{at} " + "word " * 600 for at in range(65_000)}
    Reference(rows, {f"q{at}": "query" for at in range(300)}, texts).write(tmp_path)
    assert (tmp_path / "corpus.jsonl").stat().st_size > LIMIT - (300 << 20)
    environment = {**os.environ, **processes.ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = [sys.executable, "-c", DRIVER, str(tmp_path), str(LIMIT)]
    ended = subprocess.run(driver, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout == "65000\n"
