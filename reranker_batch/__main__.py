"""Entry point of the command: Ctrl-C is answered in one line also while modules are imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and end the process with its exit code."""
    try:
        from reranker_batch.cli import run_command

        sys.exit(run_command(sys.argv[1:]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
