"""The demonstration that README promises really ends in its proof."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import find_binaries


def test_demo_restores_every_payment() -> None:
    try:
        find_binaries()
    except EngineError as error:
        pytest.skip(str(error))
    script = Path(__file__).with_name("demo.py")
    done = subprocess.run(
        [sys.executable, str(script), "--rows", "20000"], capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every payment up to the accident is back" in done.stdout
