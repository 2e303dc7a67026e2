"""The child process in which real trials run: `python -m vram_cli.probe.worker`, spoken to over its pipes.

It holds one CUDA context and one import of torch from trial to trial. It ignores Ctrl-C (the parent decides) and dies
with its parent: when the pipe from it closes.
"""

from __future__ import annotations

import os
import platform
import queue
import signal
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from typing import TextIO

from vram_cli.errors import ConfigError, MachineError, VramError
from vram_cli.probe.wire import ORDER, REPLY, TASK, Done, Entered, Order, Ready, Refused, Reply


def main() -> None:
    """Serve the parent until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = _claim_stdout()
    lines = _listen(sys.stdin)

    def say(reply: Reply) -> None:
        replies.write(REPLY.dump_json(reply).decode() + "\n")
        replies.flush()

    try:
        _serve(ORDER.validate_json(lines.get()), lines, say)
    except VramError as error:
        kind = next((base for base in (ConfigError, MachineError) if isinstance(error, base)), None)
        say(Refused(error=kind.__name__ if kind else "ProbeError", message=error.message, hint=error.hint))


def _serve(order: Order, lines: queue.Queue[str], say: Callable[[Reply], None]) -> None:
    from vram_cli.config import Config
    from vram_cli.probe.cpu import ENFORCED
    from vram_cli.probe.devices import make_meter
    from vram_cli.probe.trial import Trial
    from vram_cli.workload import open_data, set_matmul_precision

    config = Config.model_validate(order.config)
    set_matmul_precision(config)
    data = open_data(config, download=order.download)
    # A small trial on the whole device first: modules imported and kernels loaded at their first use stay, and would be
    # taken for the training's own memory. Whatever it meets, the first real trial meets again and tells.
    Trial(make_meter(config.device.name, None), lambda _: None, explain=False).run(config, data, 2, 2)
    meter = make_meter(config.device.name, config.device.budget)
    device = meter.describe()
    guarded = meter.device.type == "cpu" and not ENFORCED
    say(
        Ready(
            device=device,
            outside_bytes=meter.capacity()[1],
            guard_bytes=_resident() + device.capacity_bytes if guarded else None,
            data=data.info,
            versions=_versions() | meter.versions(),
        )
    )
    while True:
        task = TASK.validate_json(lines.get())
        for _ in range(2):  # again where the budget was overrun because the context grew on the way
            trial = Trial(meter, lambda phase: say(Entered(phase=phase)), explain=task.explain)
            measurement, poisoned = trial.run(config, data, task.batch_size, config.search.steps)
            if not (measurement.fits and meter.overran()):
                break
        say(Done(measurement=measurement, poisoned=poisoned))


def _versions() -> dict[str, str]:
    import torch

    found = {
        "vram": metadata.version("vram-cli"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": metadata.version("torchvision"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    if torch.version.hip:
        found["hip"] = torch.version.hip
    return found


def _claim_stdout() -> TextIO:
    """Keep standard output for replies; whatever else prints there goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _listen(stdin: TextIO) -> queue.Queue[str]:
    """Read lines in a thread, which ends the process when the parent is gone, in the middle of a trial too."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
