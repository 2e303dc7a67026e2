"""The environment variables of a worker process: what PyTorch, the C library and the virtual GPU read as it starts."""

from __future__ import annotations

import os

from vram_cli import virtual_gpu
from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.hardware.calibration_store import load_calibration
from vram_cli.hardware.gpus import DEFAULT_GPU, Gpu, check_overhead, find_gpu
from vram_cli.hardware.nccl import nccl_bytes
from vram_cli.probe.devices.malloc import REPRODUCIBLE_MALLOC_ENV
from vram_cli.probe.scripts.ranks import ranks_of

_ASKS_NVML = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Lets `torch.cuda.is_available` ask NVML, because packages call it as they are imported: a process that has asked the
driver cannot be forked (torch/cuda/__init__.py)."""


def environment_of(config: Config, *, calibrated: bool) -> dict[str, str]:
    """Return the variables for the device of a config, to add to this process's own.

    Raises:
        MachineError: the config wants the virtual GPU, which cannot be used here.
        ConfigError: the GPU to predict for is unknown, its calibration cannot be read, or its memory is all overhead.
    """
    device = config.device
    gpu = gpu_to_predict(config)
    obstacle = virtual_gpu.obstacle(gpu)
    if gpu is not None and device.engine == "virtual-gpu" and obstacle:
        raise MachineError(
            f"device.engine: virtual-gpu cannot predict here: {obstacle}", "leave it out for fake tensors"
        )
    if config.script is not None:
        _check_for_script(config, gpu, obstacle)
        return _ASKS_NVML | _environment_of(config, gpu, calibrated=calibrated)
    if config.parallel is not None:
        _check_for_ranks(config, obstacle)
    return _environment_of(config, gpu, calibrated=calibrated)


def _environment_of(config: Config, gpu: Gpu | None, *, calibrated: bool) -> dict[str, str]:
    device, obstacle = config.device, virtual_gpu.obstacle(gpu)
    if gpu is not None and device.engine != "fake-tensors" and not obstacle:
        return _virtual(config, gpu, calibrated=calibrated) | allocator_options(config)
    if device.gpu is not None:
        # A visible GPU would report its own properties instead of the simulated GPU's, and create a context.
        return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    if config.script is not None and device.name.startswith("cuda:"):
        return {"CUDA_VISIBLE_DEVICES": _visible(device.name)} | allocator_options(config)
    if device.name == "cpu":
        hidden = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""} if config.script else {}
        return REPRODUCIBLE_MALLOC_ENV | hidden
    return allocator_options(config)


def _check_for_script(config: Config, gpu: Gpu | None, obstacle: str) -> None:
    """Refuse the devices on which a script cannot be followed.

    Raises:
        MachineError: predictions need the virtual GPU, and it cannot be used here.
        ConfigError: the device is neither the CPU nor a CUDA GPU.
    """
    device = config.device
    no_gpu = device.name == "auto" and gpu is None and not virtual_gpu.machine_has_gpu()
    if device.engine == "fake-tensors" or (gpu is not None and obstacle) or no_gpu:
        reason = obstacle or virtual_gpu.obstacle() or "fake tensors cannot run a script"
        raise MachineError(
            f"a script is predicted by PyTorch's own CUDA code alone, which cannot run here: {reason}",
            "predict on Linux with a CUDA build of PyTorch, such as in a container, or run real steps on this computer "
            "with --device cpu",
        )
    if device.name.split(":")[0] not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"device.name: a script is measured on cpu and on cuda, not on {device.name}",
            "describe the training by a config to measure it there",
        )


def _check_for_ranks(config: Config, obstacle: str) -> None:
    """Refuse the devices on which a rank can be neither measured nor predicted.

    Raises:
        MachineError: predictions need the virtual GPU, and it cannot be used here.
        ConfigError: the device is a single one, or limits are those of single ranks, which are not predicted.
    """
    device, limits = config.device, config.parallel.memory_limits if config.parallel else None
    predicts = predicts_ranks(config)
    if predicts and (obstacle or device.engine == "fake-tensors"):
        reason = obstacle or "fake tensors cannot run NCCL"
        raise MachineError(
            f"parallel: a rank is predicted by PyTorch's own CUDA code alone, which cannot run here: {reason}",
            "predict on Linux with a CUDA build of PyTorch, such as in a container",
        )
    if predicts and limits is not None:
        raise ConfigError(
            "parallel.memory_limits: ranks are predicted on GPUs that are alike",
            "set device.memory_limit, or measure ranks on this machine with --device cpu or cuda",
        )
    if not predicts and (":" in device.name or device.name == "mps"):
        raise ConfigError(
            f"device.name: {device.name} is one device, which several ranks cannot share",
            "name cuda: every rank takes the GPU of its own number; CUDA_VISIBLE_DEVICES selects and orders them",
        )


def predicts_ranks(config: Config) -> bool:
    """Return whether a rank of a config is predicted, and not all of them measured on devices of this machine."""
    device = config.device
    return device.gpu is not None or (device.name == "auto" and not virtual_gpu.machine_has_gpu())


def _visible(name: str) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES that shows a process only cuda:N, as its first GPU."""
    index = int(name.partition(":")[2])
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    if visible and index >= len(visible):
        raise MachineError(
            f"device.name: there is no {name}: CUDA_VISIBLE_DEVICES is {','.join(visible)}", "use cuda:0 or a lower one"
        )
    return visible[index] if visible else str(index)


def gpu_to_predict(config: Config) -> Gpu | None:
    """Return the GPU that the config names, or the default if it names no device and this machine has no GPU.

    None: real trials, or a worker that finds out itself, because only PyTorch knows this machine's devices.
    """
    device = config.device
    if device.gpu is not None:
        return find_gpu(device.gpu)
    if (
        device.name == "auto"
        and device.engine != "fake-tensors"
        and not virtual_gpu.obstacle()
        and not virtual_gpu.machine_has_gpu()
    ):
        return find_gpu(DEFAULT_GPU)
    return None


def _virtual(config: Config, gpu: Gpu, *, calibrated: bool) -> dict[str, str]:
    device = config.device
    calibration = load_calibration(gpu) if calibrated else None
    gpu = calibration.apply_to(gpu) if calibration else gpu
    memory = device.memory_limit or gpu.memory_bytes
    context = gpu.context_bytes if device.overhead is None else device.overhead
    context += communication_bytes(config)
    check_overhead(context, memory)
    return virtual_gpu.environment(gpu, memory_bytes=memory, context_bytes=context)


def communication_bytes(config: Config) -> int:
    """Return NCCL's own memory in a prediction: the config's, or an allowance."""
    parallel = config.parallel
    if config.script is not None:
        ranks = ranks_of(config.script.words(1))[0]
        return nccl_bytes(ranks) if ranks > 1 else 0  # it may train without a group
    if parallel is None:
        return 0
    if parallel.nccl is not None:
        return parallel.nccl
    groups = (parallel.shard_ranks, parallel.replicas) if parallel.replicas > 1 else (parallel.ranks,)
    return nccl_bytes(*groups)


def allocator_options(config: Config) -> dict[str, str]:
    """Return the variables of the CUDA allocator's options."""
    if not config.device.expandable_segments:
        return {}
    # The older of the variable's two names: PyTorch 2.9 reads this option only from it (pytorch#183387).
    name = "PYTORCH_CUDA_ALLOC_CONF"
    return {name: ",".join(filter(None, (os.environ.get(name), "expandable_segments:True")))}
