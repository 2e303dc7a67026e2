"""The virtual GPU fails: vram answers with the right number or with none, never with a prediction of another kind.

`make test-faults` tries hundreds of such faults; these are a few of each kind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_gpu.faults import (
    GPU,
    LIBRARY,
    fault_trials,
    library_without,
    predict,
    refusing,
    small_config,
    with_library,
)
from tests.workload.configs import config
from vram_cli.errors import MachineError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.environment import environment_of
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Outcome, Phase
from vram_cli.virtual_gpu import LIBRARIES, VARIABLE, obstacle

pytestmark = pytest.mark.skipif(bool(obstacle(GPU)), reason=f"no virtual GPU here: {obstacle(GPU)}")

CALLED = (
    "cudaMalloc",
    "cudaFree",
    "cudaMemcpyAsync",
    "cudaDeviceSynchronize",
    "cublasLtMatmul",
    "cudnnBackendFinalize",
)
NOT_CALLED = ("cublasSrotm_v2", "ncclAllReduce", "cufftXtExec", "cusolverDnXgeqrf")


@pytest.fixture(scope="module")
def trials() -> list[dict[str, Any]]:
    """A session in which functions refuse one by one, and the GPU is full after every 16 MiB."""
    faults, code = fault_trials("16", *CALLED, *NOT_CALLED)
    assert code == 0
    return faults


def test_a_function_that_refuses_is_named_if_the_training_calls_it(trials: list[dict[str, Any]]) -> None:
    outcomes = {fault["fault"]: fault["outcome"] for fault in trials if isinstance(fault["fault"], str)}
    assert {name: outcomes[name] for name in CALLED} == dict.fromkeys(CALLED, "named")
    assert {name: outcomes[name] for name in NOT_CALLED} == dict.fromkeys(NOT_CALLED, "not called")


def test_a_full_gpu_is_out_of_memory_in_any_phase_up_to_the_size_that_fits(trials: list[dict[str, Any]]) -> None:
    rooms = [fault for fault in trials if isinstance(fault["fault"], int)]
    outcomes = [fault["outcome"] for fault in rooms]
    assert {*outcomes} == {Outcome.OUT_OF_MEMORY.value, Outcome.FITS.value}
    assert outcomes == sorted(outcomes, reverse=True)  # out of memory, then fits
    failed = [fault for fault in rooms if fault["outcome"] == Outcome.OUT_OF_MEMORY.value]
    assert all("CUDA out of memory. Tried to allocate" in fault["message"] for fault in failed)
    phases = {Phase.BUILD, Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER}
    assert {fault["phase"] for fault in failed} >= {phase.value for phase in phases}
    assert len({fault["allocated"] for fault in rooms if fault["outcome"] == Outcome.FITS.value}) == 1


def test_a_refusal_ends_the_prediction_with_the_name_and_no_number() -> None:
    answer = predict(small_config(), refusing("cudnnCreate"))
    assert (answer.code, answer.measured) == (2, None)
    assert answer.message.startswith("cudnnCreate: the training calls this function of CUDA")


@pytest.mark.parametrize("content", [b"no library\n", None], ids=["text", "absent"])
def test_a_library_that_does_not_load_is_told_instead_of_fake_tensors(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / LIBRARY.name
    if content is not None:
        path.write_bytes(content)
    answer = predict(small_config(), with_library(path))
    assert (answer.code, answer.measured) == (3, None)
    assert "did not load" in answer.message


def test_a_session_of_a_process_without_the_library_does_not_open() -> None:
    with pytest.raises(MachineError, match="did not load"):
        open_trials(small_config(), download=False, virtual=True)


@pytest.mark.parametrize("function", ["cudaMalloc", "cudnnCreate"])  # as PyTorch starts; as an error like another
def test_a_pytorch_that_is_newer_than_the_library_gets_no_number(function: str) -> None:
    with library_without(function) as path:
        answer = predict(small_config(), with_library(path))
    assert (answer.code, answer.measured) == (2, None)
    assert answer.message.endswith(f"lacks functions that this PyTorch calls: {function}")


def test_only_the_worker_has_the_libraries_and_a_driver_of_this_machine_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's names lead to copies here, as to the driver itself on a machine with a GPU.

    On a Hopper with expandable segments, PyTorch looks for both.
    """
    for library in LIBRARIES:
        shutil.copy(library, tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("VRAM_TEST_SPY", str(tmp_path / "seen.json"))
    settings = config(
        model={"factory": "tests.virtual_gpu.spy:linear"}, device={"gpu": "h100", "expandable_segments": True}
    )
    answer = predict(settings)
    assert answer.measured is not None, answer
    assert answer.measured.fits, answer
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert "libtorch_cuda.so" in seen["worker"]
    here = Path("/proc/self/maps").read_text()
    for library in LIBRARIES:
        assert str(library) in seen["worker"]
        assert library.name not in seen["child"] + here
    assert str(tmp_path) not in seen["worker"] + seen["child"] + here


def test_a_worker_that_is_killed_is_no_verdict() -> None:
    answer = predict(small_config(), meanwhile=lambda pid: os.kill(pid, signal.SIGKILL))
    assert (answer.code, answer.measured) == (3, None)
    assert "was ended by SIGKILL" in answer.message


@pytest.mark.parametrize(
    "device",
    [{"name": "cuda"}, {"name": "cuda:1"}, {"name": "cpu"}, {"gpu": "t4", "engine": "fake-tensors"}, {"gpu": "mi300x"}],
)
def test_no_other_worker_gets_the_library(device: Mapping[str, str]) -> None:
    variables = environment_of(config(device=device), calibrated=False)
    assert not variables.keys() & {"LD_PRELOAD", VARIABLE}


def test_a_prediction_keeps_what_the_user_preloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/somewhere/libjemalloc.so")
    variables = environment_of(config(device={"gpu": find_gpu("t4").name}), calibrated=False)
    assert variables["LD_PRELOAD"].split() == [*map(str, LIBRARIES), "/somewhere/libjemalloc.so"]
