"""Where Ray's workers, and drivers of their own, find the package and the helpers of these tests."""

import os
from pathlib import Path

_HERE = Path(__file__).parent
WORKER_PATH = os.pathsep.join(map(str, (_HERE, _HERE.parent, _HERE.parents[1])))
