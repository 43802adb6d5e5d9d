"""S3 through obstore against s3fs: a large object and many small ones, pushed and fetched; the cold start.

Needs `moto[s3] flask flask-cors s3fs` beside the storage. The server is moto in a process of its own, one for both.
`python benchmarks/storage_s3.py [--mib 2048] [--small 200] [--rounds 3]`
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from measure import Contestant, compete, report
from walg_storage_s3.testing import make_bucket, moto

COMMON = """
import os, sys
endpoint, what, mib, small = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
piece = os.urandom(1 << 20)
"""

OBSTORE = (
    COMMON
    + """
from walg_core.testing.contexts import make_context
from walg_core.pipeline.reader import IterReader
context = make_context({
    "WALG_S3_PREFIX": "s3://bucket/obstore", "AWS_ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1", "AWS_S3_FORCE_PATH_STYLE": "true",
})
storage = context.primary_storage()
if what == "push":
    storage.put("large", IterReader(piece for _ in range(mib)))
elif what == "fetch":
    reader = storage.open("large")
    while reader.read(1 << 20):
        pass
elif what == "push-small":
    for number in range(small):
        storage.put_bytes(f"small/{number}", piece[:16384])
elif what == "fetch-small":
    for number in range(small):
        storage.get(f"small/{number}")
else:
    storage.put_bytes("one", piece[:16384])
"""
)

S3FS = (
    COMMON
    + """
import s3fs
system = s3fs.S3FileSystem(key="x", secret="x", endpoint_url=endpoint, use_listings_cache=False,
                           skip_instance_cache=True, default_block_size=20 << 20, max_concurrency=16)
root = "bucket/s3fs"
if what == "push":
    with system.open(f"{root}/large", "wb", block_size=20 << 20) as file:
        for _ in range(mib):
            file.write(piece)
elif what == "fetch":
    with system.open(f"{root}/large", "rb", block_size=20 << 20, cache_type="readahead") as file:
        while file.read(1 << 20):
            pass
elif what == "push-small":
    for number in range(small):
        system.pipe_file(f"{root}/small/{number}", piece[:16384])
elif what == "fetch-small":
    for number in range(small):
        system.cat_file(f"{root}/small/{number}")
else:
    system.pipe_file(f"{root}/one", piece[:16384])
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the large object")
    parser.add_argument("--small", type=int, default=200, help="number of objects of 16 KiB")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, moto() as url:
        make_bucket(url)
        os.environ["HOME"] = scratch
        for what in ("push", "fetch", "push-small", "fetch-small", "cold"):
            words = [url, what, str(given.mib), str(given.small)]
            contestants = [
                Contestant(name, [sys.executable, "-c", code, *words])
                for name, code in (("obstore", OBSTORE), ("s3fs", S3FS))
            ]
            if what == "cold":
                contestants.insert(0, Contestant("bare interpreter", [sys.executable, "-c", "pass"]))
            compete(contestants, given.rounds)
            report(what, contestants)


if __name__ == "__main__":
    main()
