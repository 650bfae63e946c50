"""One header of a plain archive: 512 bytes, as POSIX ustar lays them out, of which name, size, kind and mode count.

Only regular files, directories and GNU long names are known; everything else is refused by what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from suanli_protocol.errors import IntegrityError

BLOCK_BYTES = 512
SIZE_MAX = 8**11 - 1  # eleven octal digits
SHORT_NAME_BYTES = 100
LONG_NAME_BYTES_MAX = 4096
_LONG_NAME = b"././@LongLink"
_BLANK_CHECKSUM = b" " * 8
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"7": "a contiguous file",
    b"D": "a directory dump",
    b"K": "a long link",
    b"M": "a continued file",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"g": "a pax header",
    b"x": "a pax header",
}


class EntryType(Enum):
    """What a header stands before."""

    FILE = b"0"
    DIRECTORY = b"5"
    LONG_NAME = b"L"


@dataclass(frozen=True, slots=True)
class Header:
    """What counts of a header. `size` is the bytes that follow it, before padding to whole blocks."""

    name: bytes
    size: int
    type: EntryType
    executable: bool = False


def padding(size: int) -> int:
    """Zero bytes that follow `size` bytes of data."""
    return -size % BLOCK_BYTES


def write_header(header: Header) -> bytes:
    """The block of a header, with a long name's block and data before it where the name needs them."""
    name, before = header.name, b""
    if len(name) > SHORT_NAME_BYTES:
        data = name + b"\0"
        before = _block(Header(_LONG_NAME, len(data), EntryType.LONG_NAME)) + data + bytes(padding(len(data)))
    return before + _block(Header(name[:SHORT_NAME_BYTES], header.size, header.type, header.executable))


def _block(header: Header) -> bytes:
    mode = 0o755 if header.executable or header.type is EntryType.DIRECTORY else 0o644
    block = bytearray(BLOCK_BYTES)
    block[0 : len(header.name)] = header.name
    block[100:108] = b"%07o\0" % mode
    block[108:116] = block[116:124] = b"%07o\0" % 0  # owner and group
    block[124:136] = b"%011o\0" % header.size
    block[136:148] = b"%011o\0" % 0  # time
    block[156:157] = header.type.value
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % _checksum(block)
    return bytes(block)


def read_header(block: bytes) -> Header:
    """The header in a block of 512 hostile bytes; IntegrityError says what is wrong with it."""
    label = repr(_text(block[0:100]).decode("utf-8", "replace"))
    if _octal(block[148:156], "checksum", label) != _checksum(block):
        raise IntegrityError(f"archive entry {label}: the header's checksum is wrong")
    flag = block[156:157]
    if flag in _REFUSED:
        raise IntegrityError(
            f"archive entry {label} is {_REFUSED[flag]}; only regular files and directories are taken",
            hint="replace links by the files they point to",
        )
    try:
        kind = EntryType(b"0" if flag == b"\0" else flag)
    except ValueError:
        raise IntegrityError(f"archive entry {label} is of unknown type {flag!r}") from None
    size = _octal(block[124:136], "size", label)
    if kind is EntryType.DIRECTORY and size:
        raise IntegrityError(f"archive entry {label} is a directory with {size} bytes of data")
    return Header(_name(block), size, kind, bool(_octal(block[100:108], "mode", label) & 0o100))


def _name(block: bytes) -> bytes:
    """The name, with the prefix that POSIX (and not GNU) puts before it."""
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + _text(block[0:100]) if prefix else _text(block[0:100])


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _octal(field: bytes, what: str, label: str) -> int:
    digits = _text(field).strip(b" ")
    if not digits or digits.strip(b"01234567"):
        raise IntegrityError(f"archive entry {label}: the {what} is no octal number")
    return int(digits, 8)


def _checksum(block: bytes | bytearray) -> int:
    return sum(block[:148]) + sum(_BLANK_CHECKSUM) + sum(block[156:])
