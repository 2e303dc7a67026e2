"""PyTorch's allocation rules written down a second time: plain lists, everything found by looking at everything.

It shares no data structure with the model that it checks, only the settings and the exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vram_cli.allocator.caching_allocator import OutOfMemory
from vram_cli.allocator.settings import AllocatorSettings
from vram_cli.units import MIB

Shown = list[tuple[int, int, bool, list[tuple[int, int, int, bool]]]]
"""Segments as (address, size, small, blocks), blocks as (address, size, requested, handed out)."""


@dataclass
class Piece:
    address: int
    size: int
    state: str  # "live", "free" or "void" (addresses without memory)
    requested: int = 0


@dataclass
class Stretch:
    """A segment of cudaMalloc, or a range of addresses of expandable segments."""

    small: bool
    pieces: list[Piece]
    growing: bool

    @property
    def page(self) -> int:
        return 2 * MIB if self.small else 20 * MIB

    def tidy(self) -> None:
        pieces: list[Piece] = []
        for piece in self.pieces:
            if pieces and piece.state != "live" and pieces[-1].state == piece.state:
                pieces[-1].size += piece.size
            else:
                pieces.append(piece)
        self.pieces = pieces

    def carve(self, index: int, size: int, state: str) -> Piece:
        """Give the first `size` bytes of a piece another state."""
        piece = self.pieces[index]
        front = Piece(piece.address, size, state)
        rest = Piece(piece.address + size, piece.size - size, piece.state)
        self.pieces[index : index + 1] = [front, rest] if rest.size else [front]
        return front


@dataclass
class Twin:
    """The same rules written down again, without any of the other's data structures."""

    capacity: int | None
    options: AllocatorSettings
    stretches: list[Stretch] = field(default_factory=list)
    retries: int = 0
    top: int = 1 << 44

    def total(self, *states: str) -> int:
        return sum(piece.size for stretch in self.stretches for piece in stretch.pieces if piece.state in states)

    def malloc(self, size: int) -> int:
        if size == 0:
            return 0
        rounded = self.rounded(size)
        place = self.search(rounded) or self.from_device(rounded)
        if place is None and self.drop_oversize(rounded):
            place = self.from_device(rounded)
        if place is None:
            self.retries += 1
            self.release_cached()
            place = self.from_device(rounded)
        if place is None:
            free = (self.capacity or 0) - self.total("live", "free")
            raise OutOfMemory(
                requested_bytes=size, segment_bytes=self.wanted(rounded), free_bytes=free,
                allocated_bytes=0, reserved_bytes=0,
            )  # fmt: skip
        stretch, index = place
        spare = stretch.pieces[index].size - rounded
        limit = self.options.max_split_size_mb
        if stretch.small or self.options.expandable_segments:
            split = spare >= 512
        else:
            split = spare > 1 * MIB and (limit is None or rounded < limit * MIB)
        piece = stretch.carve(index, rounded if split else rounded + spare, "live")
        piece.requested = size
        return piece.address

    def free(self, address: int) -> None:
        for stretch in self.stretches:
            for piece in stretch.pieces:
                if piece.address == address and piece.state == "live":
                    piece.state, piece.requested = "free", 0
            stretch.tidy()

    def release_cached(self) -> None:
        for stretch in self.stretches:
            if stretch.growing:
                self.void_pages(stretch)
            elif [piece.state for piece in stretch.pieces] == ["free"]:
                stretch.pieces = []
        self.stretches = [stretch for stretch in self.stretches if stretch.pieces]

    def void_pages(self, stretch: Stretch) -> None:
        start, page = stretch.pieces[0].address, stretch.page
        before = [piece for piece in stretch.pieces if piece.state == "free"]
        for piece in before:
            first = -(-(piece.address - start) // page) * page + start
            last = (piece.address + piece.size - start) // page * page + start
            if last > first:
                at = stretch.pieces.index(piece)
                if first > piece.address:
                    stretch.carve(at, first - piece.address, "free")
                    at += 1
                stretch.carve(at, last - first, "void")
        stretch.tidy()
        if before and [piece.state for piece in stretch.pieces] == ["void"]:
            stretch.pieces = []

    def rounded(self, size: int) -> int:
        divisions = self.options.roundup_power2_divisions
        if divisions > 1 and size > 512 * divisions:
            power = 1
            while power * 2 <= size:
                power *= 2
            return min(p for p in (power + k * power // divisions for k in range(divisions + 1)) if p >= size)
        return (size + 511) // 512 * 512

    def wanted(self, rounded: int) -> int:
        if rounded <= 1 * MIB:
            return 2 * MIB
        return 20 * MIB if rounded < 10 * MIB else (rounded + 2 * MIB - 1) // (2 * MIB) * (2 * MIB)

    def candidates(self, rounded: int) -> list[tuple[int, int, Stretch, int]]:
        """All free pieces of the pool: (size, address, stretch, index), the best first."""
        found = [
            (piece.size, piece.address, stretch, index)
            for stretch in self.stretches
            if stretch.small == (rounded <= 1 * MIB)
            for index, piece in enumerate(stretch.pieces)
            if piece.state == "free"
        ]
        return sorted(found, key=lambda one: one[:2])

    def search(self, rounded: int) -> tuple[Stretch, int] | None:
        fitting = [one for one in self.candidates(rounded) if one[0] >= rounded]
        if not fitting:
            return None
        best = fitting.pop(0)
        while self.options.expandable_segments and fitting and self.could_be(fitting[0]) < self.could_be(best):
            best = fitting.pop(0)
        if self.options.max_split_size_mb is not None:
            limit = self.options.max_split_size_mb * MIB
            if rounded < limit and best[0] >= limit:
                return None
            if rounded >= limit and best[0] >= rounded + 20 * MIB:
                return None
        return best[2], best[3]

    def could_be(self, one: tuple[int, int, Stretch, int]) -> int:
        size, _, stretch, index = one
        behind = stretch.pieces[index + 1 : index + 2]
        return size + sum(piece.size for piece in behind if piece.state == "void")

    def take(self, size: int) -> bool:
        return self.capacity is None or self.total("live", "free") + size <= self.capacity

    def from_device(self, rounded: int) -> tuple[Stretch, int] | None:
        small = rounded <= 1 * MIB
        if self.options.expandable_segments:
            return self.from_pages(small, rounded)
        size = self.wanted(rounded)
        if not self.take(size):
            return None
        self.stretches.append(Stretch(small, [Piece(self.top, size, "free")], growing=False))
        self.top += size
        return self.stretches[-1], 0

    def from_pages(self, small: bool, rounded: int) -> tuple[Stretch, int] | None:
        stretch, start = self.lowest(small, rounded)
        while True:
            index = next(i for i, piece in enumerate(stretch.pieces) if piece.address == start)
            piece = stretch.pieces[index]
            have = piece.size if piece.state == "free" else 0
            if have >= rounded:
                return stretch, index
            void = index + (1 if have else 0)
            size = min(stretch.pieces[void].size, rounded - have)
            size = -(-size // stretch.page) * stretch.page
            if not self.take(size):
                return None
            stretch.carve(void, size, "free")
            stretch.tidy()

    def lowest(self, small: bool, rounded: int) -> tuple[Stretch, int]:
        for stretch in self.stretches:
            for index, piece in enumerate(stretch.pieces):
                if stretch.small == small and piece.state == "void":
                    begin = index - 1 if index and stretch.pieces[index - 1].state == "free" else index
                    run = 0
                    for other in stretch.pieces[begin:]:
                        if other.state == "live":
                            break
                        run += other.size
                    if run >= rounded:
                        return stretch, stretch.pieces[begin].address
        page = 2 * MIB if small else 20 * MIB
        length = 1 << 44 if self.capacity is None else max(self.capacity + self.capacity // 8, rounded)
        length = -(-length // page) * page
        self.stretches.append(Stretch(small, [Piece(self.top, length, "void")], growing=True))
        self.top += length
        return self.stretches[-1], self.stretches[-1].pieces[0].address

    def drop_oversize(self, rounded: int) -> bool:
        if self.options.max_split_size_mb is None or self.options.expandable_segments:
            return False
        limit = self.options.max_split_size_mb * MIB
        wanted = max(limit, rounded)
        cached = self.candidates(rounded)
        single = [one for one in cached if one[0] >= wanted]
        doomed, released = single[:1], sum(one[0] for one in single[:1])
        for one in reversed(cached):
            if released < wanted and one[0] >= limit:
                doomed.append(one)
                released += one[0]
        for _, _, stretch, _ in doomed:
            self.stretches.remove(stretch)
        return released >= wanted

    def shown(self) -> Shown:
        segments: Shown = []
        for stretch in self.stretches:
            blocks: list[tuple[int, int, int, bool]] = []
            for piece in [*stretch.pieces, Piece(0, 0, "void")]:
                if piece.state != "void":
                    blocks.append((piece.address, piece.size, piece.requested, piece.state == "live"))
                elif blocks:
                    segments.append((blocks[0][0], sum(block[1] for block in blocks), stretch.small, blocks))
                    blocks = []
        return sorted(segments)
