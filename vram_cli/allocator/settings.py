"""Sizes that PyTorch's CUDACachingAllocator works in, and the settings that change them.

From c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp in pytorch/pytorch; brackets name the constant or
the function there.
"""

from __future__ import annotations

from dataclasses import dataclass

from vram_cli.errors import ConfigError
from vram_cli.units import MIB

MIN_BLOCK = 512
"""Sizes are rounded up to a multiple of it (kMinBlockSize)."""
SMALL_LIMIT = 1 * MIB
"""The largest size that the small pool serves (kSmallSize)."""
SMALL_SEGMENT = 2 * MIB
"""What the small pool takes from the device at a time (kSmallBuffer)."""
LARGE_SEGMENT = 20 * MIB
"""What sizes below `LARGE_EXACT` take from the device (kLargeBuffer, large_segment_size)."""
LARGE_EXACT = 10 * MIB
"""From here on a segment is as large as the size, rounded up to `LARGE_ROUND` (kMinLargeAlloc)."""
LARGE_ROUND = 2 * MIB
"""Above `LARGE_EXACT` segments are a multiple of it (kRoundLarge)."""


@dataclass(frozen=True, kw_only=True)
class AllocatorSettings:
    """What PYTORCH_ALLOC_CONF changes, as far as it is modelled; the defaults are PyTorch's.

    Raises:
        ConfigError: PyTorch would refuse the value.
    """

    expandable_segments: bool = False
    roundup_power2_divisions: int = 1
    """Steps between two powers of two to which sizes are rounded up; 1 rounds to `MIN_BLOCK` only."""
    max_split_size_mb: int | None = None
    """In MiB, whatever its name says. Blocks of this size and above are never split; None splits all."""

    def __post_init__(self) -> None:
        divisions, limit = self.roundup_power2_divisions, self.max_split_size_mb
        if divisions < 1 or divisions & (divisions - 1):
            raise ConfigError(f"roundup_power2_divisions: {divisions} is not a power of two", "use 1, 2, 4, 8 or 16")
        if limit is not None and limit * MIB <= LARGE_SEGMENT:
            raise ConfigError(f"max_split_size_mb: {limit} is too small", "PyTorch takes values above 20")

    @classmethod
    def parse(cls, text: str) -> AllocatorSettings:
        """Read what stands in PYTORCH_ALLOC_CONF, such as "expandable_segments:True,max_split_size_mb:128".

        Raises:
            ConfigError: an option or a value that is not modelled, such as garbage_collection_threshold.
        """
        options: dict[str, int] = {}
        for option in filter(None, text.replace(" ", "").split(",")):
            name, _, value = option.partition(":")
            if name == "expandable_segments" and value in ("True", "False"):
                options[name] = value == "True"
            elif name in ("roundup_power2_divisions", "max_split_size_mb") and value.isdecimal():
                options[name] = int(value)
            else:
                hint = "vram models expandable_segments, max_split_size_mb and roundup_power2_divisions with one number"
                raise ConfigError(f"allocator option {option!r} is not modelled", hint)
        return cls(
            expandable_segments=bool(options.get("expandable_segments", False)),
            roundup_power2_divisions=options.get("roundup_power2_divisions", 1),
            max_split_size_mb=options.get("max_split_size_mb"),
        )

    def round_size(self, size: int) -> int:
        """Return the size of the block for a request (round_size, roundup_power2_next_division)."""
        divisions = self.roundup_power2_divisions
        if divisions > 1 and size > MIN_BLOCK * divisions:
            return round_up(size, (1 << (size.bit_length() - 1)) // divisions)
        return max(MIN_BLOCK, round_up(size, MIN_BLOCK))


DEFAULT_SETTINGS = AllocatorSettings()


def segment_size(size: int) -> int:
    """Return what a block of `size` takes from the device (get_allocation_size)."""
    if size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < LARGE_EXACT else round_up(size, LARGE_ROUND)


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below `value`."""
    return -(-value // multiple) * multiple
