"""A moto server that checks signatures, and a bucket in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from walg_storage_s3 import testing


class Server(NamedTuple):
    """Where the server is and whose keys it takes."""

    endpoint: str
    key: str
    secret: str

    def settings(self, bucket: str = "bucket") -> dict[str, str]:
        return testing.settings(self.endpoint, self.key, self.secret, bucket)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Checks signatures and rights."""
    import boto3

    # The first requests are free: they make the user whose signature all others must carry.
    with testing.moto(environment={"INITIAL_NO_AUTH_ACTION_COUNT": "4"}) as endpoint:
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

    with testing.moto() as endpoint:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="bucket")
        yield Server(endpoint, "x", "x")
