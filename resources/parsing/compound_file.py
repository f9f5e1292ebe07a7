"""OLE compound files (the container of .msg): its storages and streams, by path. Kreuzberg gives no access to them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from resources.errors import ParseError

_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Numbers of sectors from here on are marks: free, end of a chain, tables.
_FIRST_MARK = 0xFFFFFFFA
_NONE = 0xFFFFFFFF
_ENTRY_BYTES = 128


class CompoundFile:
    """The streams of a compound file by path, such as `__attach_version1.0_#00000000/__substg1.0_37010102`."""

    def __init__(self, data: bytes) -> None:
        if not data.startswith(_SIGNATURE) or len(data) < 512:
            raise ParseError("the OLE container is damaged")
        self._data = data
        shift, mini_shift = struct.unpack_from("<HH", data, 30)
        if not 7 <= shift <= 16 or not 4 <= mini_shift < shift:
            raise ParseError("the OLE container is damaged")
        self._size, self._mini_size = 1 << shift, 1 << mini_shift
        self._table = self._read_table()
        first_directory, _, self._cutoff, first_mini = struct.unpack_from("<IIII", data, 48)
        self._mini_table = _numbers(self._chain(first_mini))
        self._entries = self._chain(first_directory)
        self._mini_data = self._chain(self._field(0, 116)) if self._entries else b""
        self.streams: Mapping[str, int] = dict(self._paths())

    def read(self, path: str) -> bytes:
        """Return a stream, empty if it does not exist."""
        entry = self.streams.get(path)
        if entry is None:
            return b""
        start, size = self._field(entry, 116), self._field(entry, 120)
        if size < self._cutoff:
            return self._mini_chain(start, size)
        return self._chain(start)[:size]

    def _read_table(self) -> list[int]:
        """Return the number of the sector that follows each sector."""
        sectors = list(struct.unpack_from("<109I", self._data, 76))
        next_list, seen = struct.unpack_from("<I", self._data, 68)[0], 0
        while next_list < _FIRST_MARK and seen <= len(self._data) // self._size:
            numbers = _numbers(self._sector(next_list))
            if not numbers:
                break
            sectors += numbers[:-1]
            next_list, seen = numbers[-1], seen + 1
        return [
            number
            for sector in sectors
            if sector < _FIRST_MARK
            for number in _numbers(self._sector(sector))
        ]

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._size
        return self._data[start : start + self._size]

    def _chain(self, start: int) -> bytes:
        parts: list[bytes] = []
        # A damaged chain may be a circle.
        for _ in range(len(self._table)):
            if start >= len(self._table):
                break
            parts.append(self._sector(start))
            start = self._table[start]
        return b"".join(parts)

    def _mini_chain(self, start: int, size: int) -> bytes:
        parts: list[bytes] = []
        for _ in range(min(len(self._mini_table), size // self._mini_size + 1)):
            if start >= len(self._mini_table):
                break
            parts.append(self._mini_data[start * self._mini_size : (start + 1) * self._mini_size])
            start = self._mini_table[start]
        return b"".join(parts)[:size]

    def _field(self, entry: int, offset: int) -> int:
        return struct.unpack_from("<I", self._entries, entry * _ENTRY_BYTES + offset)[0]

    def _paths(self) -> Iterator[tuple[str, int]]:
        """Yield path and entry of each stream. The entries of a storage are a binary tree."""
        count = len(self._entries) // _ENTRY_BYTES
        seen: set[int] = set()
        stack = [(self._field(0, 76), "")] if count else []
        while stack:
            entry, folder = stack.pop()
            if entry >= count or entry in seen:
                continue
            seen.add(entry)
            start = entry * _ENTRY_BYTES
            length, kind = struct.unpack_from("<HB", self._entries, start + 64)
            name = self._entries[start : start + max(min(length, 64) - 2, 0)].decode(
                "utf-16-le", "replace"
            )
            stack += [(self._field(entry, offset), folder) for offset in (72, 68)]
            if kind == 1:
                stack.append((self._field(entry, 76), f"{folder}{name}/"))
            elif kind == 2:
                yield folder + name, entry


def _numbers(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]))
