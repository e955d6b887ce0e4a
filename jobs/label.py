"""Make training labels; for `ray job submit --working-dir . -- python jobs/label.py --config CONFIG`."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from reranker_batch.cli import guarded, label_and_summarize
from reranker_batch.config.labels import LabelConfig
from reranker_batch.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A wrong use is one message, as every other error."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. {self.format_usage().strip()}")


@guarded
def main() -> int:
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="YAML file with the settings")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    return label_and_summarize(LabelConfig.load(arguments.config, overrides=arguments.overrides))


if __name__ == "__main__":
    sys.exit(main())
