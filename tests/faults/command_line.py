"""Classes a and b: flags, configs, streams, the environment and the limits of a process."""

from __future__ import annotations

from tests.faults.run import Fault

FAULTS = [Fault(name="version >/dev/full", command="vram --version >/dev/full", code=3, stderr="error: .*stdout")]
