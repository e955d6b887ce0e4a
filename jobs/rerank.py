"""Score a table: the entry point for `ray job submit --working-dir . -- python jobs/rerank.py --config CONFIG`."""

from __future__ import annotations

import argparse
import sys

from reranker_batch.cli import guarded, run_and_summarize
from reranker_batch.config import JobConfig


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML file with the settings")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="TABLE.KEY=VALUE")
    arguments = parser.parse_args()
    return run_and_summarize(JobConfig.load(arguments.config, overrides=arguments.overrides))


if __name__ == "__main__":
    sys.exit(main())
