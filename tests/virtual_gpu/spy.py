"""A model that notes what its process and the programs that it starts have of the virtual GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

MAPS = "import pathlib; print(pathlib.Path('/proc/self/maps').read_text())"


def linear() -> torch.nn.Module:
    """Build a layer; write what it finds to the file that the environment names."""
    child = subprocess.run([sys.executable, "-S", "-c", MAPS], stdout=subprocess.PIPE, text=True, check=True)
    found = {"worker": Path("/proc/self/maps").read_text(), "child": child.stdout}
    Path(os.environ["VRAM_TEST_SPY"]).write_text(json.dumps(found))
    return torch.nn.Linear(4, 2)
