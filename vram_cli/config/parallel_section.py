"""The section about several GPUs: how ranks share the training, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vram_cli.config.section import Section
from vram_cli.config.value_types import Size, invalid

ShardDtype = Literal["float32", "bfloat16", "float16"]

MOST_RANKS = 65_536  # more GPUs than any training has had

_MISSING_STRATEGIES = {
    "fsdp1": "its memory depends on how far the CPU runs ahead of the GPU",
    "zero": "DeepSpeed is not supported",
    "deepspeed": "DeepSpeed is not supported",
    "tp": "tensor parallelism is not supported",
    "tensor_parallel": "tensor parallelism is not supported",
    "pp": "pipeline parallelism is not supported",
    "pipeline": "pipeline parallelism is not supported",
    "pipeline_parallel": "pipeline parallelism is not supported",
}
_MISSING_KEYS = {
    "cpu_offload": "offloading to the CPU",
    "offload": "offloading to the CPU",
    "offload_policy": "offloading to the CPU",
    "tensor_parallel": "tensor parallelism",
    "pipeline_parallel": "pipeline parallelism",
    "sequence_parallel": "sequence parallelism",
    "context_parallel": "context parallelism",
    "expert_parallel": "expert parallelism",
}
_SUPPORTED = "vram knows ddp (also with zero_redundancy_optimizer) and fsdp2"


class ParallelConfig(Section):
    """Data parallelism over several GPUs: a batch size is that of one rank, which has one GPU."""

    choices: ClassVar[tuple[str, ...]] = ("strategy",)
    only_for: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bucket_cap_mb": ("ddp",),
        "gradient_as_bucket_view": ("ddp",),
        "find_unused_parameters": ("ddp",),
        "static_graph": ("ddp",),
        "zero_redundancy_optimizer": ("ddp",),
        "modules": ("fsdp2",),
        "reshard_after_forward": ("fsdp2",),
        "param_dtype": ("fsdp2",),
        "reduce_dtype": ("fsdp2",),
        "replicas": ("fsdp2",),
    }

    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """ddp: torch.nn.parallel.DistributedDataParallel. fsdp2: torch.distributed.fsdp.fully_shard."""
    ranks: Annotated[int, Field(ge=1, le=MOST_RANKS)]
    """Processes that train together, each on a GPU of its own."""
    bucket_cap_mb: Annotated[int, Field(ge=1)] | None = None
    """MiB of gradients that are reduced together; null for PyTorch's 25, after a first bucket of 1 (ddp only)."""
    gradient_as_bucket_view: bool = False
    """Let gradients be views of their buckets, so that they are held once and not twice (ddp only)."""
    find_unused_parameters: bool = False
    """Look for parameters without gradients in each step (ddp only)."""
    static_graph: bool = False
    """Promise that every step uses the same parameters (ddp only)."""
    zero_redundancy_optimizer: bool = False
    """Divide the optimizer's state among ranks with ZeroRedundancyOptimizer, by whole parameters (ddp only)."""
    modules: str = Field(default="blocks", min_length=1)
    """Modules whose parameters are gathered together: blocks (all repeated blocks of the model), none (only the whole
    model), or a pattern for names of modules, such as "layers.*" (fsdp2 only)."""
    reshard_after_forward: bool | None = None
    """Free gathered parameters after forward, and gather them again in backward. null leaves it to PyTorch, which does
    it for all modules but the outermost (fsdp2 only)."""
    param_dtype: ShardDtype | None = None
    """Dtype in which parameters are gathered and used; null for their own (fsdp2 only)."""
    reduce_dtype: ShardDtype | None = None
    """Dtype in which gradients are reduced; null for that of the gradients (fsdp2 only)."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Copies of the whole model among which its shards are replicated (HSDP); 1 shards over all ranks (fsdp2 only)."""
    memory_limits: tuple[Size, ...] | None = None
    """For ranks on devices of this machine: the memory limit of each, if they differ; null for device.memory_limit."""
    nccl: Size | None = None
    """For predictions: NCCL's own memory per rank, outside PyTorch's allocator; null for an allowance."""

    @field_validator("memory_limits", mode="before")
    @classmethod
    def _read_limits(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, (list, tuple)):
            raise invalid(f"expected one size a rank, got {value!r}", "such as [200MiB, 150MiB]")
        return None if value is None else tuple(value)

    @field_validator("strategy", mode="before")
    @classmethod
    def _refuse_strategies_by_name(cls, value: Any) -> Any:
        name = str(value).lower().replace("-", "_")
        if name == "fsdp":
            raise invalid("fsdp may be FSDP1 or FSDP2", "write fsdp2 for torch.distributed.fsdp.fully_shard")
        if reason := _MISSING_STRATEGIES.get(name):
            raise invalid(f"{value} cannot be measured: {reason}", _SUPPORTED)
        return value

    @model_validator(mode="before")
    @classmethod
    def _refuse_keys_by_name(cls, value: Any) -> Any:
        for key in value if isinstance(value, dict) else ():
            if subject := _MISSING_KEYS.get(key):
                raise invalid(f"{subject} cannot be measured", f"remove it: {_SUPPORTED}", key)
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> ParallelConfig:
        if self.ranks % self.replicas:
            hint = f"each of the {self.replicas} replicas needs the same number of ranks"
            raise invalid(f"{self.ranks} ranks cannot be divided into {self.replicas} replicas", hint, "replicas")
        if self.memory_limits is not None and len(self.memory_limits) != self.ranks:
            hint = "give one limit a rank, in their order"
            raise invalid(f"lists {len(self.memory_limits)}, and there are {self.ranks} ranks", hint, "memory_limits")
        return self

    @property
    def kind(self) -> str:
        """The strategy, which decides about the keys that apply."""
        return self.strategy

    @property
    def shards(self) -> bool:
        """Whether each rank holds a part of every parameter."""
        return self.strategy == "fsdp2"

    @property
    def shard_ranks(self) -> int:
        """Ranks that share one copy of the model's parameters."""
        return self.ranks // self.replicas if self.shards else 1
