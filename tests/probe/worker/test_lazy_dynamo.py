"""The stand-in for torch._dynamo: it is replaced as soon as something is compiled, and not before."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.probe.worker.lazy_dynamo import _LazyDynamo, _LazyUtils, make_dynamo_lazy


class Stance:
    """Records that it was taken and left, as the compiler's takes effect when it is made."""

    def __init__(self, name: str, log: list[str]) -> None:
        self._name, self._log = name, log
        log.append(name)

    def __exit__(self, *_: object) -> None:
        self._log.append("default")

    def __call__(self, function: Any) -> Any:
        return self._name, function


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a stand-in in place; the log has the import of the module that it stands for, and the stances of that."""
    events: list[str] = []

    def import_module(name: str) -> Any:
        events.append("import")
        sys.modules[name] = SimpleNamespace(compiled=1, set_stance=lambda stance, **_: Stance(stance, events))
        sys.modules[f"{name}.utils"] = SimpleNamespace(is_compile_supported=lambda device: f"on {device}", rest=1)
        return sys.modules[name]

    monkeypatch.setattr("vram_cli.probe.worker.lazy_dynamo.import_module", import_module)
    lazy = _LazyDynamo("torch._dynamo")
    monkeypatch.setitem(sys.modules, "torch._dynamo", lazy)
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", _LazyUtils("torch._dynamo.utils"))
    monkeypatch.setitem(vars(torch), "_dynamo", lazy)
    return events


def test_a_search_for_files_of_modules_imports_nothing(log: list[str]) -> None:
    assert not hasattr(torch._dynamo, "__file__")  # as inspect.getmodule asks, in the middle of torch's own imports
    assert log == []


def test_a_tracker_and_a_step_import_nothing(log: list[str]) -> None:
    weight = torch.ones(3, requires_grad=True)
    with StorageTracker(torch.device("cpu")) as tracker:
        optimizer = torch.optim.SGD([weight])
        weight.sum().backward()
        optimizer.step()
    assert tracker.peak_bytes > 0
    assert log == []


def test_what_is_compiled_while_a_tracker_is_active_runs_eagerly(log: list[str]) -> None:
    with StorageTracker(torch.device("cpu")):
        assert torch._dynamo.compiled
        assert log == ["import", "force_eager"]
    assert log == ["import", "force_eager", "default"]


def test_a_function_with_a_stance_is_the_compilers(log: list[str]) -> None:
    assert torch.compiler.set_stance("force_eager")(len) == ("force_eager", len)
    assert log == ["import", "force_eager"]


def test_the_function_of_torchvision_is_the_real_one_when_it_is_called(log: list[str]) -> None:
    from torch._dynamo.utils import is_compile_supported  # as torchvision/ops/roi_align.py

    assert not hasattr(sys.modules["torch._dynamo.utils"], "__file__")
    assert log == []
    assert is_compile_supported("cpu") == "on cpu"
    assert log == ["import"]
    assert is_compile_supported("cuda") == "on cuda"


def test_other_functions_of_the_utilities_are_the_real_ones(log: list[str]) -> None:
    from torch._dynamo.utils import rest

    assert rest == 1
    assert log == ["import"]


def test_a_stance_that_has_been_left_is_not_taken_later(log: list[str]) -> None:
    with torch.compiler.set_stance("force_eager"):
        pass
    assert torch._dynamo.compiled
    assert log == ["import"]


def test_config_alone_is_imported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch._dynamo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(vars(torch), "_dynamo", None)
    make_dynamo_lazy()
    assert torch._dynamo.config.recompile_limit
    with FakeTensorMode():
        assert torch.ones(3).shape == (3,)
    parts = {name for name in sys.modules if name.startswith("torch._dynamo.")}
    assert parts == {"torch._dynamo.config", "torch._dynamo.utils"}
    assert not hasattr(sys.modules["torch._dynamo"], "__file__")
