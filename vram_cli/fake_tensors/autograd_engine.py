"""The backward pass in Python, since PyTorch's engine initializes CUDA, which fails without a GPU.

It runs the same graph of `grad_fn` nodes in the same order, and keeps and frees tensors when the C++ engine does;
brackets name the function of torch/csrc/autograd that each rule follows. `create_graph` is not supported.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import torch

from vram_cli.fake_tensors.checkpointed_blocks import checkpointed_block, has_gone_back
from vram_cli.fake_tensors.errors import unsupported
from vram_cli.fake_tensors.hooks import Grads, TensorHooks, run_all


class SavedTensor:
    """A tensor that a node saves for the backward pass (SavedVariable); None once it is released."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: torch.Tensor | None = tensor


class Engine:
    """Runs backward passes; while its pack and unpack hooks are active, it also decides how long saved tensors live.

    Args:
        adds_in_place: whether gradients are summed in place if nothing else references them: since PyTorch 2.0
            (pytorch#88339).

    Attributes:
        node: the node that is running; None outside backward passes.
        hooks: the hooks of non-leaf tensors.
    """

    def __init__(self, *, adds_in_place: bool = True) -> None:
        self._adds_in_place = adds_in_place
        self.node: Any = None
        self._unpacked: list[SavedTensor] = []
        self._inputs_of_blocks: list[tuple[Any, int, SavedTensor]] = []
        self.hooks = TensorHooks()
        self._nodes: set[Any] = set()
        self.running = 0
        """Number of nested backward passes that are running."""
        self.pass_id = -1
        """Id of the innermost backward pass; -1 outside."""
        self._passes = 0

    def pack(self, tensor: torch.Tensor) -> SavedTensor:
        """Save a tensor for the backward pass (saved_tensors_hooks)."""
        return SavedTensor(tensor)

    def unpack(self, saved: SavedTensor) -> torch.Tensor:
        """Return a saved tensor to its node, which releases it after it has run."""
        if saved.tensor is None:
            raise RuntimeError("Trying to backward through the graph a second time")
        if (block := checkpointed_block(sys._getframe(1))) is None:
            self._unpacked.append(saved)
        else:
            self._inputs_of_blocks.append((block, self.pass_id, saved))
        return saved.tensor

    def _release_inputs_of_blocks(self) -> None:
        """Release the inputs of checkpointed blocks of which each node has run."""
        for block, pass_id, saved in self._inputs_of_blocks:
            if has_gone_back(block, pass_id):
                saved.tensor = None
        self._inputs_of_blocks = [entry for entry in self._inputs_of_blocks if entry[2].tensor is not None]

    def backward(  # noqa: PLR0917 - PyTorch's signature
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
        root_grads: Grads = [None] * len(roots) if grad_tensors is None else _as_list(grad_tensors)
        self.running += 1
        self._passes += 1
        outer, self.pass_id = (self.pass_id, self._nodes, self.node), self._passes
        try:
            with torch.no_grad():
                grads: Grads = [
                    torch.ones_like(root) if grad is None else grad
                    for root, grad in zip(roots, root_grads, strict=True)
                ]
                self._execute([_edge(root) for root in roots], grads)
        finally:
            self.running -= 1
            self.pass_id, self._nodes, self.node = outer

    def will_execute(self, node: Any) -> bool:
        """Return whether the running pass executes a node (_will_engine_execute_node)."""
        return node in self._nodes

    def _execute(self, edges: list[tuple[Any, int]], grads: Grads) -> None:
        """Run each node once its gradients are complete, the most recent node first (Engine::execute)."""
        dependencies = _dependencies([node for node, _ in edges])
        self._nodes = {*dependencies, *(node for node, _ in edges)}
        buffers: dict[Any, Grads] = {}
        ready: list[tuple[int, int, Any]] = []
        queued = 0
        for (node, position), grad in zip(edges, grads, strict=True):
            self._add(buffers, node, position, [grad])
        for node in dict.fromkeys(node for node, _ in edges):
            if not dependencies[node]:
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
                dependencies[following] -= 1
                if not dependencies[following]:
                    heappush(ready, (-following._sequence_nr(), queued := queued + 1, following))

    def _run(self, node: Any, grads: Grads) -> Grads:
        """Run one node and release its saved tensors (evaluate_function)."""
        metadata = node._input_metadata
        grads += [None] * (len(metadata) - len(grads))
        for position in range(len(grads)):
            self.hooks.run(node, position, grads)
        if hasattr(node, "variable"):
            _accumulate_grad(node.variable, grads)
            return []
        outer, self._unpacked = self._unpacked, []
        try:
            outputs = _call(node, grads, metadata)
            _validate(node, outputs)
        finally:
            for saved in self._unpacked:
                saved.tensor = None
            self._unpacked = outer
            self._release_inputs_of_blocks()
        return outputs

    def _add(self, buffers: dict[Any, Grads], node: Any, position: int, cell: Grads) -> None:
        """Move the gradient from its cell to the node's buffer, adding it to an earlier one (InputBuffer::add).

        A cell is a list of one, so that no other reference keeps the gradient alive.
        """
        buffer = buffers.setdefault(node, [])
        buffer += [None] * (position + 1 - len(buffer))
        if cell[0] is None:
            return
        if buffer[position] is None:
            buffer[position] = cell[0]
        elif self._adds_in_place and _can_accumulate_in_place(buffer, position) and _is_dense(buffer[position]):  # type: ignore[arg-type]
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
    """Count the edges into every reachable node (compute_dependencies)."""
    counts: Counter[Any] = Counter()
    seen, stack = set(roots), list(roots)
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None:
                continue
            counts[following] += 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return counts


def _call(node: Any, grads: Grads, metadata: Sequence[Any]) -> Grads:
    """Run a node's formula: C++, or the `backward` of a user's autograd.Function (PyNode::apply)."""
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        if getattr(node, "materializes_grads", True):
            for i, like in enumerate(metadata):
                if grads[i] is None:
                    grads[i] = torch.zeros(like.shape, dtype=like.dtype, device=like.device)
        # It returns a gradient for every argument; the graph has edges for tensors only.
        pairs = zip(_as_list(node.apply(*grads)), node.needs_input_grad, strict=False)
        outputs = iter([grad for grad, needed in pairs if needed])
        return [None if following is None else next(outputs) for following, _ in node.next_functions]
    return _as_list(node(*grads))


def _as_list(outputs: Any) -> Grads:
    return [outputs] if outputs is None or isinstance(outputs, torch.Tensor) else list(outputs)


def _validate(node: Any, outputs: Grads) -> None:
    """Reduce each gradient to the shape of its tensor and cast it to its dtype (validate_outputs)."""
    for i, (following, position) in enumerate(node.next_functions):
        grad = outputs[i] if i < len(outputs) else None
        if grad is None or following is None:
            continue
        like = following._input_metadata[position]
        if grad.shape != like.shape:
            grad = grad.sum_to_size(like.shape)
        outputs[i] = grad if grad.dtype is like.dtype else grad.to(like.dtype)


def _can_accumulate_in_place(grads: Grads, position: int) -> bool:
    """Whether nothing else references the tensor or its storage (can_accumulate_inplace)."""
    storage = grads[position].untyped_storage()  # type: ignore[union-attr]
    # The references are the tensor, and the Python object of this check.
    return _has_one_reference(grads, position) and torch._C._storage_Use_Count(storage._cdata) <= 2


def _has_one_reference(grads: Grads, position: int) -> bool:
    """Whether only the list references the tensor: one count for it, one for getrefcount's argument, none in C++."""
    return sys.getrefcount(grads[position]) <= 2 and grads[position]._use_count() <= 1  # type: ignore[union-attr]


def _accumulate_grad(variable: torch.Tensor, cell: Grads) -> None:
    """Accumulate the gradient of a leaf, without a copy if nothing else references it (AccumulateGrad::apply)."""
    run_all(variable._backward_hooks, cell, 0)
    if cell[0] is None:
        return
    if variable.grad is not None:
        variable.grad += cell[0]
    elif _has_one_reference(cell, 0) and _same_layout(cell[0], variable):
        variable.grad = cell[0].detach()
    else:
        variable.grad = _copy(cell[0], variable)
    # The incoming gradient stays alive until the hooks have run, even if they free the accumulated one.
    for hook in list((variable._post_accumulate_grad_hooks or {}).values()):
        if hook(variable) is not None:
            raise RuntimeError("Tensor post accumulate grad hooks should return None.")  # PyTorch's message
    cell[0] = None


def _same_layout(grad: torch.Tensor, variable: torch.Tensor) -> bool:
    """Whether the gradient has the strides that optimizers expect (obeys_layout_contract)."""
    if not _is_dense(variable):
        return grad.is_contiguous()
    pairs = zip(grad.shape, grad.stride(), variable.stride(), strict=True)
    return all(size == 1 or stride == other for size, stride, other in pairs)


def _copy(grad: torch.Tensor, variable: torch.Tensor) -> torch.Tensor:
    """Copy the gradient in the variable's layout (clone_obey_contract)."""
    if not _is_dense(variable):
        return grad.clone(memory_format=torch.contiguous_format)
    return torch.empty_strided(variable.shape, variable.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the tensor covers its memory without gaps or overlaps (is_non_overlapping_and_dense)."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True
