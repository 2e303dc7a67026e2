"""A trial in a process that another program has started: it begins as torch is imported, if the process trains."""

from __future__ import annotations

import atexit
import json
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import nn

from vram_cli.probe.scripts.attach import Sender
from vram_cli.probe.scripts.isolation import Isolation
from vram_cli.probe.scripts.messages import SCRIPT_REQUEST
from vram_cli.probe.scripts.script_trial import ScriptTrial
from vram_cli.virtual_gpu.attached import detach_children


def attach_to_process(request: dict[str, Any], send: Sender) -> None:
    """Follow the training of this process, which another program has started, if it trains.

    Args:
        request: a `ScriptRequest` as JSON.
        send: sends an answer.
    """
    trial_request = SCRIPT_REQUEST.validate_python(request)
    effects = Isolation(has_overlay=trial_request.has_overlay).start(made=trial_request.made)
    is_alone = trial_request.is_virtual
    before_end = (lambda: None) if is_alone else send.wait_for_others
    trial = ScriptTrial(trial_request, lambda line: send(json.loads(line)), effects, before_end)
    # A launcher makes no modules; those that train do, before anything else that takes memory.
    trial.attach(_when_modules_are_made)
    show = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        show(kind, error, trace)
        if trial.has_trained or not isinstance(error, SystemExit):
            trial.script_ended(error)

    sys.excepthook = report
    atexit.register(lambda: trial.script_ended(None) if trial.has_trained else None)


def _when_modules_are_made(start: Callable[[], None]) -> None:
    make = nn.Module.__init__

    def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        nn.Module.__init__ = make  # type: ignore[method-assign]
        detach_children()  # not before: a launcher's child needs the virtual GPU, too
        start()
        make(module, *args, **kwargs)

    nn.Module.__init__ = init  # type: ignore[method-assign, assignment]
