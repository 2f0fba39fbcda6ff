"""Packs made by hand: little to send, much to unpack. Nothing here is ever unpacked by whoever makes it."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from reconciler import model

GIB = 1 << 30
# SHA-1 over "blob 2147483648", a NUL and as many zeros: three seconds of work whose result never changes.
TWO_GIB_OF_ZEROS = model.Oid("77e9132b46cb9535f286f18974872f40049d1a89")
_BLOB, _REF_DELTA = 3, 7
_PIECE = 1 << 26
_COPY_AT_MOST = 0xFFFFFF  # of one instruction of a delta


@dataclass
class Pack:
    """Objects as gitformat-pack lays them out, with an index of the same hand."""

    entries: list[tuple[model.Oid, bytes]] = field(default_factory=list)

    def add_zeros(self, oid: model.Oid, size: int) -> None:
        """A blob of zeros. `size`: a multiple of 64 MiB; one piece is compressed, and stands there as often as it takes."""
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        piece = deflate.compress(bytes(_PIECE)) + deflate.flush(zlib.Z_FULL_FLUSH)
        ending = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
        adler = (size % 65521) << 16 | 1
        stream = b"\x78\xda" + piece * (size // _PIECE) + ending + adler.to_bytes(4)
        self.entries.append((oid, _header(_BLOB, size) + stream))

    def add_blob(self, content: bytes) -> model.Oid:
        oid = model.Oid(hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest())
        self.entries.append((oid, _header(_BLOB, len(content)) + zlib.compress(content)))
        return oid

    def add_copies(self, oid: model.Oid, base: model.Oid, base_size: int, copies: int) -> int:
        """A delta: its base, so many times over. Returns the size that it unpacks to; `oid` is what the index claims."""
        size = base_size * copies
        delta = _varint(base_size) + _varint(size) + _copy(base_size) * copies
        entry = _header(_REF_DELTA, len(delta)) + bytes.fromhex(base) + zlib.compress(delta)
        self.entries.append((oid, entry))
        return size

    def write(self, git_dir: Path) -> None:
        """Into a repository, where upload-pack sends it on as it stands."""
        packed, offsets = bytearray(b"PACK" + (2).to_bytes(4) + len(self.entries).to_bytes(4)), {}
        for oid, entry in self.entries:
            offsets[oid] = (len(packed), zlib.crc32(entry))
            packed += entry
        trailer = hashlib.sha1(packed).digest()
        packed += trailer
        names = sorted(offsets)
        counts = [sum(int(oid[:2], 16) <= first for oid in names) for first in range(256)]
        index = b"\xfftOc" + (2).to_bytes(4) + b"".join(count.to_bytes(4) for count in counts)
        index += b"".join(bytes.fromhex(oid) for oid in names)
        index += b"".join(offsets[oid][1].to_bytes(4) for oid in names)
        index += b"".join(offsets[oid][0].to_bytes(4) for oid in names) + trailer
        path = git_dir / "objects/pack" / f"pack-{trailer.hex()}.pack"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(packed)
        path.with_suffix(".idx").write_bytes(index + hashlib.sha1(index).digest())


def _header(kind: int, size: int) -> bytes:
    first, rest = kind << 4 | size & 15, size >> 4
    return bytes([first | 128]) + _varint(rest) if rest else bytes([first])


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def _copy(size: int) -> bytes:
    """Copy `size` bytes from the start of the base, in as many instructions as that takes."""
    made = bytearray()
    at = 0
    while at < size:
        part = min(size - at, _COPY_AT_MOST)
        given = [(bit, at >> 8 * bit & 255) for bit in range(4)] + [
            (4 + bit, part >> 8 * bit & 255) for bit in range(3)
        ]
        made.append(128 | sum(1 << bit for bit, byte in given if byte))
        made += bytes(byte for _, byte in given if byte)
        at += part
    return bytes(made)
