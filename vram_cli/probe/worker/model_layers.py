"""Describe a model: its layers as torchinfo lists them, and their output shapes, without memory if possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy
from torchinfo import summary
from torchinfo.layer_info import LayerInfo

from vram_cli.config import Config
from vram_cli.errors import VramError
from vram_cli.fake_tensors.errors import translate_fake_errors
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.worker.output_shapes import OutputShapes
from vram_cli.records import DtypeFacts, LayerFacts, ModelFacts
from vram_cli.workload import DataSource, build_model, data_dtype, error_summary, forward, moved, parameter_dtype
from vram_cli.workload.model_without_memory import ModelWithoutValues, build_without_memory

_CPU = torch.device("cpu")
_REAL_BATCH_SIZE = 2
"""Samples of a batch that is run for real: batch norm refuses a single one."""
_RAM_FACTOR = 2
"""A model is run for real only if this multiple of its bytes is available as RAM."""


class ForwardPass(NamedTuple):
    """A model after a forward pass, complete or not."""

    model: nn.Module
    layers: Sequence[LayerInfo]
    shapes: OutputShapes
    notes: tuple[str, ...] = ()


def model_facts(config: Config, source: DataSource) -> ModelFacts:
    """Return the description of a config's model, for batches of its data.

    Raises:
        ConfigError: the model cannot be built, or a pattern of `train.freeze` matches nothing in it.
        Exception: any exception of its factory, annotated with `model.factory`. One in the forward pass becomes a note.
    """
    # Checkpointing changes no layer, and the user may need these names to correct a wrong pattern for it.
    config = config.model_copy(update={"train": config.train.model_copy(update={"activation_checkpointing": "none"})})
    model, layers, shapes, notes = _run_forward(config, source)
    if _shares_parameters(model):
        note = "Modules share parameters: a row counts all that its module uses, the totals count each parameter once."
        notes = (*notes, note)
    return ModelFacts(
        name=str(config.model.factory or config.model.name),
        # A module with two names is listed under the first.
        layers=tuple(_layer(info, shapes) for info in layers if not info.is_recursive),
        dtypes=_dtypes(model),
        trainable_parameters=_trainable(model),
        batch_size=shapes.batch_size if shapes.outputs else None,
        notes=notes,
    )


def _run_forward(config: Config, source: DataSource) -> ForwardPass:
    """Run a forward pass on fake tensors, or for real if that fails."""
    model, dtype = (
        build_without_memory(lambda: build_model(config, initializes_lazy_layers=False)),
        parameter_dtype(config),
    )
    shapes = OutputShapes(config.train.batch_size)
    try:
        layers = _layers(model)  # counts the ones in masks of pruned layers, which fake tensors do not have
        _run_on_fakes(config, source, model, shapes)
    except Exception as error:  # noqa: BLE001 - the layers can be listed after any error
        reason = _message(error)
    else:
        return ForwardPass(model, layers, shapes)
    if _bytes(model) * _RAM_FACTOR > available_bytes():
        note = f"Output shapes are missing: {reason}. There is too little RAM to run the model for real."
        return ForwardPass(model, _layers(model), shapes, (note,))
    model = moved(build_model(config, initializes_lazy_layers=False), _CPU, dtype)
    shapes = OutputShapes(_REAL_BATCH_SIZE)
    note = f"Run for real on the CPU, with a batch of {_REAL_BATCH_SIZE}: {reason}"
    try:
        batch = source.make_batch(_REAL_BATCH_SIZE, _CPU, data_dtype(model))
        shapes.watch(model, lambda: forward(config, model, batch))
    except Exception as error:  # noqa: BLE001 - as above
        note = f"Output shapes are missing: {_message(error)}"
    return ForwardPass(model, _layers(model), shapes, (note,))


def _run_on_fakes(config: Config, source: DataSource, model: nn.Module, shapes: OutputShapes) -> None:
    make, dtype = source.make_shapes(), parameter_dtype(config)
    with translate_fake_errors(), FakeTensorMode(allow_non_fake_inputs=True):
        ModelWithoutValues(model).to(_CPU, dtype)
        batch = make(shapes.batch_size, _CPU, data_dtype(model))
        shapes.watch(model, lambda: forward(config, model, batch))


def _layers(model: nn.Module) -> list[LayerInfo]:
    return summary(model, verbose=0).summary_list


def _layer(info: LayerInfo, shapes: OutputShapes) -> LayerFacts:
    # torchinfo's own counts leave out parameters that a mask hides, which take memory all the same.
    parameters = _parameters(info.module)
    return LayerFacts(
        path=_path(info),
        kind=info.class_name,
        output_shape=shapes.outputs.get(info.layer_id),
        calls=shapes.calls[info.layer_id],
        parameters=sum(tensor.numel() for tensor in parameters),
        trainable_parameters=_trainable(info.module),
        bytes=sum(tensor.nbytes for tensor in parameters),
    )


def _path(info: LayerInfo) -> str:
    names: list[str] = []
    while info.parent_info is not None:
        names.insert(0, info.var_name)
        info = info.parent_info
    return ".".join(names)


def _dtypes(model: nn.Module) -> tuple[DtypeFacts, ...]:
    parameters, buffers = _parameters(model), list(model.buffers())
    return tuple(
        DtypeFacts(
            dtype=str(dtype).removeprefix("torch."),
            parameters=sum(tensor.numel() for tensor in parameters if tensor.dtype is dtype),
            parameter_bytes=sum(tensor.nbytes for tensor in parameters if tensor.dtype is dtype),
            buffers=sum(tensor.numel() for tensor in buffers if tensor.dtype is dtype),
            buffer_bytes=sum(tensor.nbytes for tensor in buffers if tensor.dtype is dtype),
        )
        for dtype in dict.fromkeys(tensor.dtype for tensor in (*parameters, *buffers))
    )


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters, without those of lazy modules that have not run: they have no size yet."""
    return [tensor for tensor in module.parameters() if not is_lazy(tensor)]


def _trainable(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in _parameters(module) if tensor.requires_grad)


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*_parameters(model), *model.buffers()))


def _shares_parameters(model: nn.Module) -> bool:
    uses = (tensor for module in model.modules() for tensor in module._parameters.values() if tensor is not None)
    return sum(1 for _ in uses) > sum(1 for _ in model.parameters())


def _message(error: Exception) -> str:
    return error.message if isinstance(error, VramError) else error_summary(error)
