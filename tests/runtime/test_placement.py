from typing import Any

import pytest

from reranker_batch import JobConfig
from reranker_batch.errors import ConfigError
from reranker_batch.runtime.placement import Node, Placement, place


def config(model: dict[str, Any] | None = None, **runtime: Any) -> JobConfig:
    return JobConfig.of(
        {
            "input": {"path": "in"},
            "model": {"name": "m"} | (model or {}),
            "output": {"path": "out"},
            "runtime": runtime,
        }
    )


def test_a_laptop_gets_one_replica_on_all_threads_and_a_cpu_for_the_other_steps() -> None:
    assert place(config(), [Node(cpus=2, gpus=0)]) == Placement("cpu", 1, 1, num_cpus=1, num_gpus=0, threads=2)


def test_replicas_of_a_node_share_its_threads() -> None:
    assert place(config(min_replicas=3, max_replicas=3), [Node(cpus=8, gpus=0)]) == Placement(
        "cpu", 3, 3, num_cpus=2, num_gpus=0, threads=2
    )


def test_every_cpu_node_gets_a_replica() -> None:
    placement = place(config(), [Node(cpus=8, gpus=0), Node(cpus=8, gpus=0)])
    assert (placement.max_replicas, placement.num_cpus, placement.threads) == (2, 7, 8)


def test_every_gpu_gets_a_replica_that_leaves_the_cpus_alone() -> None:
    nodes = [Node(cpus=16, gpus=4), Node(cpus=16, gpus=4), Node(cpus=4, gpus=0)]
    assert place(config(), nodes) == Placement("cuda", 1, 8, num_cpus=0, num_gpus=1, threads=0)


def test_a_share_of_a_gpu_packs_several_replicas_on_one() -> None:
    assert place(config(gpus_per_replica=0.5), [Node(cpus=16, gpus=2)]).max_replicas == 4


def test_gpus_are_left_alone_where_the_cpu_is_asked_for() -> None:
    assert place(config({"device": "cpu"}), [Node(cpus=4, gpus=1)]).device == "cpu"


@pytest.mark.parametrize(
    ("job", "nodes", "message"),
    [
        (config({"device": "cuda"}), [Node(4, 0)], "Ray sees 0 GPUs"),
        (config(min_replicas=4), [Node(2, 0)], "min_replicas=4 cannot be placed: 1 fit .*2 CPUs"),
        (config(min_replicas=3), [Node(16, 2)], "min_replicas=3 cannot be placed: 2 fit .*2 GPUs on 1 nodes"),
        (config(gpus_per_replica=1), [Node(4, 0)], "gpus_per_replica=1.0 on CPUs"),
        (config(gpus_per_replica=0), [Node(4, 1)], "gpus_per_replica=0 on a GPU device"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_the_numbers(job: JobConfig, nodes: list[Node], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place(job, nodes)
