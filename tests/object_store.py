"""An object store that runs in this process: moto's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[str]:
    """An empty bucket; gives the options of every URI in it."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # Every server of a process serves the same buckets: those of an earlier test go first.
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=30).raise_for_status()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        yield f"?region=us-east-1&endpoint_override={host}:{port}&scheme=http"
    finally:
        server.stop()
