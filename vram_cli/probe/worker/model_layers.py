"""What the model is: its layers as torchinfo lists them, and their output shapes, without memory if that works."""

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
from vram_cli.fake_tensors.fake_model import FakeModel, build_without_memory
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.worker.output_shapes import Shapes
from vram_cli.records import DtypeFacts, LayerFacts, ModelFacts
from vram_cli.workload import DataSource, build_model, error_summary, forward, parameter_dtype

_CPU = torch.device("cpu")
_SMALL = 2
"""Samples of a batch that is really run: batch norm refuses a single one."""
_ROOM = 2
"""A model is really run where it takes no more than one part in so many of the RAM that is free."""


class Seen(NamedTuple):
    """A model after a forward pass, whether that came to its end or not."""

    model: nn.Module
    listed: Sequence[LayerInfo]
    shapes: Shapes
    notes: tuple[str, ...] = ()


def model_facts(config: Config, source: DataSource) -> ModelFacts:
    """Return what is known of a config's model, for batches of its data.

    Raises:
        ConfigError: the model cannot be built, or a pattern of `train.freeze` names nothing in it.
        Exception: whatever its target raises, blamed on `model.factory`. What its forward pass raises is a note.
    """
    # Checkpointing changes no layer; and whoever gave it a wrong pattern is here to look up the right names.
    config = config.model_copy(update={"train": config.train.model_copy(update={"activation_checkpointing": "none"})})
    model, listed, shapes, notes = _look(config, source)
    if _shares(model):
        notes = (*notes, "Modules share parameters: each row has all that its module uses, the totals have each once.")
    return ModelFacts(
        name=str(config.model.factory or config.model.name),
        # A module with two names is listed by its first.
        layers=tuple(_layer(info, shapes) for info in listed if not info.is_recursive),
        dtypes=_dtypes(model),
        trainable_parameters=_trainable(model),
        batch_size=shapes.batch_size if shapes.outputs else None,
        notes=notes,
    )


def _look(config: Config, source: DataSource) -> Seen:
    """Run a forward pass on fakes, or where that does not work for real."""
    model, dtype = build_without_memory(lambda: build_model(config)), parameter_dtype(config)
    shapes = Shapes(config.train.batch_size)
    try:
        listed = _listed(model)  # counts the ones in masks of pruned layers, which fakes cannot
        _run_on_fakes(config, source, model, shapes)
    except Exception as error:  # noqa: BLE001 - whatever it is, the layers can be listed
        why = _words(error)
    else:
        return Seen(model, listed, shapes)
    if _bytes(model) * _ROOM > available_bytes():
        note = f"Output shapes are missing: {why}. To run it for real, there is too little RAM."
        return Seen(model, _listed(model), shapes, (note,))
    model, shapes = build_model(config).to(dtype=dtype), Shapes(_SMALL)
    note = f"Run for real on the CPU, with a batch of {_SMALL}: {why}"
    try:
        batch = source.make_batch(_SMALL, _CPU, dtype)
        shapes.watch(model, lambda: forward(config, model, batch))
    except Exception as error:  # noqa: BLE001 - as above
        note = f"Output shapes are missing: {_words(error)}"
    return Seen(model, _listed(model), shapes, (note,))


def _run_on_fakes(config: Config, source: DataSource, model: nn.Module, shapes: Shapes) -> None:
    make, dtype = source.make_shapes(), parameter_dtype(config)
    with translate_fake_errors(), FakeTensorMode(allow_non_fake_inputs=True):
        FakeModel(model).to(_CPU, dtype)
        batch = make(shapes.batch_size, _CPU, dtype)
        shapes.watch(model, lambda: forward(config, model, batch))


def _listed(model: nn.Module) -> list[LayerInfo]:
    return summary(model, verbose=0).summary_list


def _layer(info: LayerInfo, shapes: Shapes) -> LayerFacts:
    # Not torchinfo's own counts: it leaves out what a mask hides, and that lies in memory all the same.
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
    """Return the parameters, but those of lazy modules that have not run: they have no size yet."""
    return [tensor for tensor in module.parameters() if not is_lazy(tensor)]


def _trainable(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in _parameters(module) if tensor.requires_grad)


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*_parameters(model), *model.buffers()))


def _shares(model: nn.Module) -> bool:
    held = (tensor for module in model.modules() for tensor in module._parameters.values() if tensor is not None)
    return sum(1 for _ in held) > sum(1 for _ in model.parameters())


def _words(error: Exception) -> str:
    return error.message if isinstance(error, VramError) else error_summary(error)
