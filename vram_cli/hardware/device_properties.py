"""The properties that CUDA reports of a GPU besides its memory: what libraries choose their algorithms by."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vram_cli.units import parse_bytes

Count = Annotated[int, Field(gt=0)]
Size = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class Frozen(BaseModel):
    """A part of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MultiprocessorLimits(Frozen):
    """What one SM can hold: the same on all GPUs of a compute capability."""

    threads_per_multiprocessor: Count
    """Resident threads."""
    blocks_per_multiprocessor: Count
    """Resident blocks."""
    registers_per_multiprocessor: Count
    """Registers of 32 bits; one block may have all of them."""
    shared_memory_per_multiprocessor: Size
    """Bytes."""
    shared_memory_per_block_optin: Size
    """Bytes that a kernel may have if it asks for more than 48 KiB."""
    reserved_shared_memory_per_block: Annotated[int, Field(ge=0)]
    """Bytes that CUDA keeps of the shared memory of each block."""
    source: Text


class DeviceProperties(Frozen):
    """The figures of cudaDeviceProp that differ from GPU to GPU."""

    l2_bytes: Size
    """L2 cache."""
    clock_mhz: Count
    """Highest clock of the SMs."""
    memory_clock_mhz: Count
    """Highest clock of the memory, which transfers two bits per wire and cycle."""
    bus_width_bits: Count
    """Width of the memory bus."""
    source: Text
