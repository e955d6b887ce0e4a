"""The shape of a package: sizes of functions, and imports between the rooms of its folders.

`python tests/shape.py [PACKAGE]` prints it, also for another checkout.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "reranker_batch"


@dataclass(frozen=True)
class Function:
    place: str
    lines: int


def functions(package: Path = PACKAGE) -> list[Function]:
    """Every function and method, the longest first; its lines are those of its definition and body."""
    found = [
        Function(f"{path.relative_to(package)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(found, key=lambda function: -function.lines)


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, and names as `module.name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path, package: Path = PACKAGE) -> str:
    """Folder or file directly below a folder of the package: `model/forward/padded.py` stands in `forward`."""
    return path.relative_to(package).parts[1].removesuffix(".py")


def arrows(home: str, package: Path = PACKAGE) -> set[tuple[str, str]]:
    """Which room of a folder imports from which other."""
    return {
        (room_of(path, package), module.split(".")[2])
        for path in (package / home).rglob("*.py")
        for module in imported_modules(path)
        if module.startswith(f"reranker_batch.{home}.") and module.split(".")[2] != room_of(path, package)
    }


def main() -> None:
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    sizes = functions(package)
    lines = [function.lines for function in sizes]
    print(f"{len(sizes)} functions, median {statistics.median(lines):.0f} lines")
    print(f"longest: {sizes[0].lines} lines, {sizes[0].place}")
    for home in ("core", "job", "model", "runtime", "storage"):
        rooms = {room_of(path, package) for path in (package / home).rglob("*.py")} - {"__init__"}
        print(f"{home}/: {len(rooms)} files and folders, {len(arrows(home, package))} imports between them")
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    print(f"isinstance of encoders: {sum('isinstance(' in line and 'Encoder' in line for line in text.splitlines())}")


if __name__ == "__main__":
    main()
