"""What the model is: torchinfo's list of its layers, and output shapes of a forward pass, without memory if that works.

torchinfo 1.8 could run the forward pass as well, and gives up on outputs of classes that it does not know. So the
shapes are taken by hooks of our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchinfo import summary
from torchinfo.layer_info import LayerInfo

from vram_cli.config import Config
from vram_cli.errors import VramError
from vram_cli.probe.failures import words_of
from vram_cli.probe.host import available_bytes
from vram_cli.probe.simulated.errors import refusing
from vram_cli.probe.simulated.fakes import Placed, build_without_memory
from vram_cli.results import DtypeFacts, LayerFacts, ModelFacts
from vram_cli.workload import DataSource, build_model, forward, parameter_dtype, shapes_of, tensors_of

_CPU = torch.device("cpu")
_SMALL = 2
"""Samples of a batch that is really run: batch norm refuses a single one."""
_ROOM = 2
"""A model is really run where it takes no more than one part in so many of the RAM that is free."""


class Shapes:
    """What modules return in a forward pass, by the module's id; as far as it came, if it failed."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.calls: Counter[int] = Counter()

    def watch(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Run something that calls the model, with nothing kept for a backward pass."""
        hooks = [module.register_forward_hook(self._note) for module in model.modules()]
        try:
            with torch.no_grad():
                run()
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, module: nn.Module, _: Any, output: Any) -> None:
        self.calls[id(module)] += 1
        shapes = [tuple(tensor.shape) for tensor in tensors_of(output)]
        if shapes:
            self.outputs[id(module)] = next(filter(None, shapes), shapes[0])


def model_facts(config: Config, source: DataSource) -> ModelFacts:
    """Return what is known of a config's model, for batches of its data.

    Raises:
        ConfigError: the model cannot be built, or a pattern of `train.freeze` names nothing in it.
        Exception: whatever its target raises, blamed on `model.target`. What its forward pass raises is a note.
    """
    # Checkpointing changes no layer; and whoever gave it a wrong pattern is here to look up the right names.
    config = config.model_copy(update={"train": config.train.model_copy(update={"checkpointing": "none"})})
    model, shapes, notes = _ran(config, source)
    if _shares(model):
        notes = (*notes, "Modules share parameters: each row has all that its module uses, the totals have each once.")
    return ModelFacts(
        name=str(config.model.target or config.model.name),
        layers=tuple(_layers(model, shapes)),
        dtypes=_dtypes(model),
        trainable_parameters=sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad),
        batch_size=shapes.batch_size if shapes.outputs else None,
        notes=notes,
    )


def _ran(config: Config, source: DataSource) -> tuple[nn.Module, Shapes, tuple[str, ...]]:
    """Run a forward pass on fakes, or where that does not work for real; return what is left to say of it."""
    model = build_without_memory(lambda: build_model(config))
    shapes = Shapes(config.train.batch_size)
    try:
        _run_on_fakes(config, source, model, shapes)
    except Exception as error:  # noqa: BLE001 - whatever it is, the layers can be listed
        why = _words(error)
    else:
        return model, shapes, ()
    if _bytes(model) * _ROOM > available_bytes():
        return (
            model,
            shapes,
            (f"Output shapes are missing: {why}. To run the model for real, there is too little RAM.",),
        )
    model, shapes = build_model(config).to(dtype=parameter_dtype(config)), Shapes(_SMALL)
    try:
        batch = source.make_batch(_SMALL, _CPU, parameter_dtype(config))
        shapes.watch(model, lambda: forward(config, model, batch))
    except Exception as error:  # noqa: BLE001 - as above
        return model, shapes, (f"Output shapes are missing: {_words(error)}",)
    return model, shapes, (f"Run for real on the CPU, with a batch of {_SMALL}: {why}",)


def _run_on_fakes(config: Config, source: DataSource, model: nn.Module, shapes: Shapes) -> None:
    make, dtype = shapes_of(config, source), parameter_dtype(config)
    with refusing(), FakeTensorMode(allow_non_fake_inputs=True):
        Placed(model).place(_CPU, dtype)
        batch = make(shapes.batch_size, _CPU, dtype)
        shapes.watch(model, lambda: forward(config, model, batch))


def _layers(model: nn.Module, shapes: Shapes) -> Iterator[LayerFacts]:
    for info in summary(model, verbose=0).summary_list:
        if not info.is_recursive:  # a module with two names is listed by its first
            yield LayerFacts(
                path=_path(info),
                kind=info.class_name,
                output_shape=shapes.outputs.get(info.layer_id),
                calls=shapes.calls[info.layer_id],
                parameters=info.num_params,
                trainable_parameters=info.trainable_params,
                bytes=info.param_bytes,
            )


def _path(info: LayerInfo) -> str:
    names: list[str] = []
    while info.parent_info is not None:
        names.insert(0, info.var_name)
        info = info.parent_info
    return ".".join(names)


def _dtypes(model: nn.Module) -> tuple[DtypeFacts, ...]:
    parameters, buffers = list(model.parameters()), list(model.buffers())
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


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def _shares(model: nn.Module) -> bool:
    held = (tensor for module in model.modules() for tensor in module._parameters.values() if tensor is not None)
    return sum(1 for _ in held) > sum(1 for _ in model.parameters())


def _words(error: Exception) -> str:
    return error.message if isinstance(error, VramError) else words_of(error)
