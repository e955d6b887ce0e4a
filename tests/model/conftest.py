from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, random_text, save_model

from reranker_batch.model.quiet import quiet_loading


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny random model of a family, made at the first call."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            with quiet_loading():
                made[family] = save_model(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, and very much so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    """Pairs of all lengths, from two empty texts to far over the models' maximum."""
    rng = random.Random(7)
    drawn = [(random_text(rng, words), random_text(rng, 4 * words)) for words in (1, 2, 3, 5, 9) for _ in range(10)]
    return [("", ""), ("a", ""), ("", "b"), *drawn]
