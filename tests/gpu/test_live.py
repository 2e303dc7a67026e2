"""`find_batch` of a function on a GPU: in forks while this process has not used it, in the process after that."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu


def test_forks_until_the_process_uses_the_gpu() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.gpu.live_search"], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before["rows"] == after["rows"]
    assert (before["largest"], before["device"], before["remark"]) == (64, "cuda:0", "")
    assert (after["largest"], after["device"]) == (64, "cuda:0")
    assert "Trials ran in this process" in after["remark"]
    assert (before["uses_gpu"], after["uses_gpu"]) == (False, True)
    assert before["keeps_random_state"]
    assert after["keeps_random_state"]
