"""Run modules of the tests with the virtual GPU preloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from vram_cli.hardware.gpus import Gpu
from vram_cli.virtual_gpu import environment

ROOT = Path(__file__).parents[2]


def preloaded_environment(gpu: Gpu, memory_bytes: int = 0, context_bytes: int = 0) -> dict[str, str]:
    """Return this process's environment with the library and the facts of a GPU; sizes default to the GPU's own."""
    variables = environment(
        gpu, memory_bytes=memory_bytes or gpu.memory_bytes, context_bytes=context_bytes or gpu.context_bytes
    )
    return {**os.environ, **variables}


def run_preloaded(module: str, environment: dict[str, str]) -> Any:
    """Run a module in a process of its own, and return the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", module],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
