"""The backward pass in Python: PyTorch's own engine starts CUDA, which a machine without a GPU cannot.

It walks the same graph of `grad_fn` nodes, in the same order, and holds and drops tensors when the C++ engine does;
brackets name the function of torch/csrc/autograd whose rule is followed. There is no `create_graph`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import torch

from vram_cli.fake_tensors.errors import unsupported
from vram_cli.fake_tensors.hooks import Grads, TensorHooks, run_all


class Saved:
    """A tensor that a node keeps for the backward pass (SavedVariable); None once it was given up."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: torch.Tensor | None = tensor


class Engine:
    """Runs backward passes; while its hooks are in force, it also decides how long saved tensors live.

    Args:
        adds_in_place: whether gradients that meet are added in place where nobody else holds them: since torch 2.0
            (pytorch#88339).

    Attributes:
        node: the node that runs, for naming what it allocates; None outside of backward passes.
        hooks: those of tensors that are no leaves.
    """

    def __init__(self, *, adds_in_place: bool = True) -> None:
        self._adds_in_place = adds_in_place
        self.node: Any = None
        self._opened: list[Saved] = []
        self.hooks = TensorHooks()
        self._reached: set[Any] = set()
        self.running = 0
        """How many backward passes are under way, one within the other."""
        self.pass_id = -1
        """The number of the innermost of them; -1 outside."""
        self._passes = 0

    def pack(self, tensor: torch.Tensor) -> Saved:
        """Keep a tensor for the backward pass (saved_tensors_hooks)."""
        return Saved(tensor)

    def unpack(self, saved: Saved) -> torch.Tensor:
        """Give it to its node, which gives it up after it has run."""
        if saved.tensor is None:
            raise RuntimeError("Trying to backward through the graph a second time")
        self._opened.append(saved)
        return saved.tensor

    def backward(  # noqa: PLR0917 - the signature is PyTorch's
        self,
        tensors: torch.Tensor | Sequence[torch.Tensor],
        grad_tensors: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        grad_variables: Any = None,  # noqa: ARG002 - PyTorch's signature
        inputs: Any = None,
    ) -> None:
        """Stand for `torch.autograd.backward`."""
        if create_graph or retain_graph or inputs is not None:
            raise unsupported("backward() with create_graph, retain_graph or inputs")
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        given: Grads = [None] * len(roots) if grad_tensors is None else _listed(grad_tensors)
        self.running += 1
        self._passes += 1
        outer, self.pass_id = (self.pass_id, self._reached, self.node), self._passes
        try:
            with torch.no_grad():
                grads: Grads = [
                    torch.ones_like(root) if grad is None else grad for root, grad in zip(roots, given, strict=True)
                ]
                self._walk([_edge(root) for root in roots], grads)
        finally:
            self.running -= 1
            self.pass_id, self._reached, self.node = outer

    def runs(self, node: Any) -> bool:
        """Whether the pass under way comes to a node (_will_engine_execute_node)."""
        return node in self._reached

    def _walk(self, edges: list[tuple[Any, int]], grads: Grads) -> None:
        """Run every node once all that flows into it is there, the youngest first (Engine::execute)."""
        waiting = _dependencies([node for node, _ in edges])
        self._reached = {*waiting, *(node for node, _ in edges)}
        buffers: dict[Any, Grads] = {}
        ready: list[tuple[int, int, Any]] = []
        queued = 0
        for (node, position), grad in zip(edges, grads, strict=True):
            self._add(buffers, node, position, [grad])
        for node in dict.fromkeys(node for node, _ in edges):
            if not waiting[node]:
                heappush(ready, (-node._sequence_nr(), queued := queued + 1, node))
        while ready:
            _, _, node = heappop(ready)
            self.node = node
            outputs = self._run(node, buffers.pop(node, []))
            for (following, position), i in zip(node.next_functions, range(len(outputs)), strict=False):
                cell = [outputs[i]]
                outputs[i] = None
                if following is None:
                    continue
                self._add(buffers, following, position, cell)
                waiting[following] -= 1
                if not waiting[following]:
                    heappush(ready, (-following._sequence_nr(), queued := queued + 1, following))

    def _run(self, node: Any, grads: Grads) -> Grads:
        """Run one node and give up what it had saved (evaluate_function)."""
        metadata = node._input_metadata
        grads += [None] * (len(metadata) - len(grads))
        for position in range(len(grads)):
            self.hooks.run(node, position, grads)
        if hasattr(node, "variable"):
            _accumulate_grad(node.variable, grads)
            return []
        outer, self._opened = self._opened, []
        try:
            outputs = _call(node, grads, metadata)
            _validate(node, outputs)
        finally:
            for saved in self._opened:
                saved.tensor = None
            self._opened = outer
        return outputs

    def _add(self, buffers: dict[Any, Grads], node: Any, position: int, cell: Grads) -> None:
        """Move the gradient out of its cell into the node's buffer, adding where there is one (InputBuffer::add)."""
        buffer = buffers.setdefault(node, [])
        buffer += [None] * (position + 1 - len(buffer))
        if cell[0] is None:
            return
        if buffer[position] is None:
            buffer[position] = cell[0]
        elif self._adds_in_place and _is_ours(buffer, position) and _is_dense(buffer[position]):  # type: ignore[arg-type]
            buffer[position].add_(cell[0])  # type: ignore[union-attr]
        else:
            buffer[position] = buffer[position] + cell[0]  # type: ignore[operator]
        cell[0] = None


def _edge(tensor: torch.Tensor) -> tuple[Any, int]:
    if tensor.grad_fn is None:
        if not tensor.requires_grad:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
        return tensor.view_as(tensor).grad_fn.next_functions[0][0], 0  # type: ignore[union-attr]
    return tensor.grad_fn, tensor.output_nr


def _dependencies(roots: list[Any]) -> Counter[Any]:
    """Count the edges into every node that can be reached (compute_dependencies)."""
    waiting: Counter[Any] = Counter()
    seen, stack = set(roots), list(roots)
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None:
                continue
            waiting[following] += 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return waiting


def _call(node: Any, grads: Grads, metadata: Sequence[Any]) -> Grads:
    """Run a node's formula: C++, or the `backward` of a user's autograd.Function (PyNode::apply)."""
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        if getattr(node, "materializes_grads", True):
            for i, known in enumerate(metadata):
                if grads[i] is None:
                    grads[i] = torch.zeros(known.shape, dtype=known.dtype, device=known.device)
        # It answers for every argument; the graph has edges for tensors only.
        answers = zip(_listed(node.apply(*grads)), node.needs_input_grad, strict=False)
        wanted = iter([answer for answer, needed in answers if needed])
        return [None if following is None else next(wanted) for following, _ in node.next_functions]
    return _listed(node(*grads))


def _listed(outputs: Any) -> Grads:
    return [outputs] if outputs is None or isinstance(outputs, torch.Tensor) else list(outputs)


def _validate(node: Any, outputs: Grads) -> None:
    """Sum what was broadcast and cast to the dtype of what it is the gradient of (validate_outputs)."""
    for i, (following, position) in enumerate(node.next_functions):
        grad = outputs[i] if i < len(outputs) else None
        if grad is None or following is None:
            continue
        wanted = following._input_metadata[position]
        if grad.shape != wanted.shape:
            grad = grad.sum_to_size(wanted.shape)
        outputs[i] = grad if grad.dtype is wanted.dtype else grad.to(wanted.dtype)


def _is_ours(holder: Grads, position: int) -> bool:
    """Whether nobody else holds the tensor, nor its storage (can_accumulate_inplace)."""
    storage = holder[position].untyped_storage()  # type: ignore[union-attr]
    # Its tensor, and the Python object by which we ask.
    return _is_held_once(holder, position) and torch._C._storage_Use_Count(storage._cdata) <= 2


def _is_held_once(holder: Grads, position: int) -> bool:
    """Whether the list is all that holds the tensor: it and the argument of getrefcount, and no C++ besides."""
    return sys.getrefcount(holder[position]) <= 2 and holder[position]._use_count() <= 1  # type: ignore[union-attr]


def _accumulate_grad(variable: torch.Tensor, cell: Grads) -> None:
    """Keep the gradient of a leaf: take it as it is if nobody else holds it, or copy it (AccumulateGrad::apply)."""
    run_all(variable._backward_hooks, cell, 0)
    if cell[0] is None:
        return
    if variable.grad is not None:
        variable.grad += cell[0]
    elif _is_held_once(cell, 0) and _same_layout(cell[0], variable):
        variable.grad = cell[0].detach()
    else:
        variable.grad = _copy(cell[0], variable)
    # The gradient that came in is held until these are over, also where they drop the one that was kept.
    for hook in list((variable._post_accumulate_grad_hooks or {}).values()):
        if hook(variable) is not None:
            raise RuntimeError("Tensor post accumulate grad hooks should return None.")  # as PyTorch says it
    cell[0] = None


def _same_layout(grad: torch.Tensor, variable: torch.Tensor) -> bool:
    """Whether strides are what the optimizer wants (obeys_layout_contract)."""
    if not _is_dense(variable):
        return grad.is_contiguous()
    pairs = zip(grad.shape, grad.stride(), variable.stride(), strict=True)
    return all(size == 1 or ours == theirs for size, ours, theirs in pairs)


def _copy(grad: torch.Tensor, variable: torch.Tensor) -> torch.Tensor:
    """Copy in the variable's layout (clone_obey_contract)."""
    if not _is_dense(variable):
        return grad.clone(memory_format=torch.contiguous_format)
    return torch.empty_strided(variable.shape, variable.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether every element of the memory it spans belongs to it once (is_non_overlapping_and_dense)."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True
