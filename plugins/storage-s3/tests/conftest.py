"""A moto server that checks signatures, and a bucket in it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import pytest


class Server(NamedTuple):
    """Where the server is and whose keys it takes."""

    endpoint: str
    key: str
    secret: str

    def settings(self, bucket: str = "bucket") -> dict[str, str]:
        return {
            "WALG_S3_PREFIX": f"s3://{bucket}/some/path",
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_S3_FORCE_PATH_STYLE": "true",
        }


@contextlib.contextmanager
def moto(environment: dict[str, str]) -> Iterator[str]:
    """A moto server; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Checks signatures and rights."""
    import boto3

    # The first requests are free: they make the user whose signature all others must carry.
    with moto({"INITIAL_NO_AUTH_ACTION_COUNT": "4"}) as endpoint:
        anyone = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        iam = boto3.client("iam", endpoint_url=endpoint, **anyone)
        iam.create_user(UserName="backup")
        allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_user_policy(UserName="backup", PolicyName="all", PolicyDocument=json.dumps(allow))
        access = iam.create_access_key(UserName="backup")["AccessKey"]
        keys = {"aws_access_key_id": access["AccessKeyId"], "aws_secret_access_key": access["SecretAccessKey"]}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="bucket")
        yield Server(endpoint, access["AccessKeyId"], access["SecretAccessKey"])


@pytest.fixture(scope="session")
def open_server() -> Iterator[Server]:
    """Takes any signature."""
    import boto3

    with moto({}) as endpoint:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="bucket")
        yield Server(endpoint, "x", "x")
