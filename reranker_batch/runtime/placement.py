"""How many replicas fit where, and what each may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reranker_batch.config import JobConfig
from reranker_batch.errors import ConfigError

_STEP_CPUS = 1
"""CPUs that one prepare or finish task keeps busy."""


@dataclass(frozen=True)
class Node:
    """Resources that Ray may give out on one machine."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Placement:
    """The pool of replicas. `threads` are those of torch in one replica, 0 leaves torch's own choice."""

    device: Literal["cpu", "cuda"]
    min_replicas: int
    max_replicas: int
    num_cpus: float
    num_gpus: float
    threads: int

    @property
    def step_cpus(self) -> float:
        """CPUs of one prepare or finish task. Beside replicas on CPUs it reserves none: when a node is lost, its
        replicas may take the last CPUs of the others, and the short steps must still run.
        """
        return 0 if self.device == "cpu" else _STEP_CPUS


def place(config: JobConfig, nodes: Sequence[Node]) -> Placement:
    """Decide the pool before anything starts.

    On GPUs a replica reserves no CPU, so that the CPU steps always run. On CPUs the steps reserve none, and one CPU of
    the cluster is left to them; a replica's threads may still use the whole node, since those steps are short.

    Raises:
        ConfigError: What is asked for can never be placed; the message has the numbers.
    """
    gpus = sum(node.gpus for node in nodes)
    if config.model.device == "cuda" and gpus == 0:
        raise ConfigError("model.device=cuda, but Ray sees 0 GPUs. Use nodes with GPUs or set model.device: cpu.")
    if config.model.device == "cpu" or gpus == 0:
        return _place_on_cpus(config, nodes)
    return _place_on_gpus(config, nodes)


def _place_on_gpus(config: JobConfig, nodes: Sequence[Node]) -> Placement:
    asked = config.runtime.gpus_per_replica
    per_replica = 1.0 if asked == "auto" else asked
    if per_replica == 0:
        raise ConfigError("runtime.gpus_per_replica=0 on a GPU device. Set model.device: cpu or a share above 0.")
    fitting = sum(int(node.gpus // per_replica) for node in nodes)
    gpus = sum(node.gpus for node in nodes)
    most = _most(config, fitting, f"{per_replica:g} GPU each, {gpus:g} GPUs on {len(nodes)} nodes")
    return Placement("cuda", config.runtime.min_replicas, most, num_cpus=0, num_gpus=per_replica, threads=0)


def _place_on_cpus(config: JobConfig, nodes: Sequence[Node]) -> Placement:
    if config.runtime.gpus_per_replica not in ("auto", 0):
        asked_gpus = config.runtime.gpus_per_replica
        raise ConfigError(f"runtime.gpus_per_replica={asked_gpus} on CPUs. Set it to auto, or model.device: cuda.")
    cpus = sum(node.cpus for node in nodes)
    asked = config.runtime.max_replicas
    wanted = max(config.runtime.min_replicas, sum(node.cpus >= 1 for node in nodes) if asked == "auto" else asked)
    per_node = -(-wanted // max(len(nodes), 1))
    smallest = min(node.cpus for node in nodes)
    num_cpus = max(1.0, (smallest - _STEP_CPUS) // per_node)
    fitting = int((cpus - _STEP_CPUS) // num_cpus)
    most = _most(config, fitting, f"{num_cpus:g} CPU each beside {_STEP_CPUS} for the other steps, {cpus:g} CPUs")
    threads = max(1, int(smallest) // per_node)
    return Placement("cpu", config.runtime.min_replicas, min(most, wanted), num_cpus, num_gpus=0, threads=threads)


def _most(config: JobConfig, fitting: int, need: str) -> int:
    """Upper end of the pool, at most what fits."""
    least, asked = config.runtime.min_replicas, config.runtime.max_replicas
    if fitting < least:
        raise ConfigError(
            f"runtime.min_replicas={least} cannot be placed: {fitting} fit ({need}). Lower it or use more nodes."
        )
    return fitting if asked == "auto" else min(asked, fitting)
