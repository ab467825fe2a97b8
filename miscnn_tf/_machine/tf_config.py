"""Cluster nodes that train together, from the environment variable ``TF_CONFIG``; without TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from miscnn_tf._base.plain_limits import parse_json
from miscnn_tf.errors import ConfigurationError, DataError

#: The environment variable.
TF_CONFIG = "TF_CONFIG"

# In TensorFlow's order of workers.
_JOBS = ("chief", "worker")
# TensorFlow would wait forever for a worker whose address it cannot separate from the port.
_ADDRESS = re.compile(r"([^:\s/]+|\[[0-9a-fA-F:.]+(%\w+)?\]):[1-9][0-9]*")
_PORTS = 65535
_EXAMPLE = '{"cluster": {"worker": ["host_a:12345", "host_b:12345"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """Cluster nodes that train one network together, which TensorFlow calls workers.

    Args:
        addresses: ``host:port`` of each worker; the first is the chief.
        index: Index of this process in `addresses`.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """True if this process writes the files."""
        return self.index == 0

    def __str__(self) -> str:
        return f"worker {self.index + 1} of {len(self.addresses)}"


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Read the cluster of this process; None if it trains alone.

    Args:
        environment: Environment variables. ``TF_CONFIG`` is a JSON object with the addresses of all workers under
            ``"cluster"``, the same for each, and the task of this one under ``"task"``.

    Raises:
        ConfigurationError: If ``TF_CONFIG`` is invalid.

    Example:
        >>> import json
        >>> cluster = {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}
        >>> str(read_cluster({"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})}))
        'worker 2 of 2'
        >>> read_cluster({}) is None
        True

    Reference: https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
    """
    text = environment.get(TF_CONFIG, "").strip()
    if not text:
        return None
    try:
        config = parse_json(text, TF_CONFIG, "correct it")
    except DataError as error:
        raise _refused(f"is not valid JSON ({error})") from None
    jobs = config.get("cluster", {}) if isinstance(config, dict) else None
    if not isinstance(jobs, dict) or not all(_is_job(addresses) for addresses in jobs.values()):
        raise _refused('needs "cluster", the lists of addresses "host:port" (or "[IPv6]:port") of each kind of worker')
    unknown = sorted(set(jobs) - set(_JOBS))
    if unknown:
        raise _refused(f'has tasks of the kind {", ".join(unknown)}; only "worker" and one "chief" can train')
    addresses = [(job, place, address) for job in _JOBS for place, address in enumerate(jobs.get(job, []))]
    if len(addresses) < 2:
        return None
    if len(jobs.get("chief", [])) > 1:
        raise _refused("has more than one chief")
    if len({address for _, _, address in addresses}) < len(addresses):
        raise _refused("names an address twice; give each worker its own port")
    places = {(job, place): number for number, (job, place, _) in enumerate(addresses)}
    own = _task(config.get("task"))
    if own not in places:
        raise _refused(
            f"has the task {config.get('task')!r}, which is none of its {len(addresses)} workers; index counts from 0"
        )
    return Cluster(tuple(address for _, _, address in addresses), places[own])


def _is_job(addresses: Any) -> bool:
    return isinstance(addresses, list) and all(
        isinstance(address, str)
        and _ADDRESS.fullmatch(address) is not None
        and int(address.rpartition(":")[2]) <= _PORTS
        for address in addresses
    )


def _task(task: Any) -> tuple[str, int]:
    """Return the kind and number of the task, -1 without one; some launchers write the number as text."""
    if not isinstance(task, dict) or not str(task.get("index")).isdecimal():
        return "", -1
    return str(task.get("type")), int(task["index"])


def _refused(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the environment variable {TF_CONFIG} {what}. Unset it to train on this machine alone, or set it for each "
        f"worker like this: {_EXAMPLE}"
    )
