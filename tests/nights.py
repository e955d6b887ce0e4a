"""A folder with one finished output a night."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outputs import Output, finished

from reranker_batch.storage.output.run_state import REPORT

FIRST = datetime(2026, 11, 20, 3, tzinfo=UTC)


def night(folder: Path, name: str, *, day: int, gated: bool = False) -> Output:
    """A finished output `folder/name` whose run ended on this day."""
    made = finished(folder.parent / f".made-{name}", gated=gated)
    folder.mkdir(exist_ok=True)
    shutil.move(made.path, folder / name)
    shutil.rmtree(made.folder)
    output = Output(folder / name, name="")
    end_at(output, FIRST + timedelta(days=day))
    return output


def end_at(output: Output, time: object) -> None:
    change_report(output, finished_at=str(time))


def change_report(output: Output, **changes: object) -> None:
    path = output.run / REPORT
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
