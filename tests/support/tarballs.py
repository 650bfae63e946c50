"""Archives that no honest packer writes: each one names what is wrong with it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from suanli_protocol.archive_header import BLOCK_BYTES, EntryType, Header, padding, write_header

END = bytes(2 * BLOCK_BYTES)


def entry(name: bytes | str, data: bytes = b"", kind: EntryType = EntryType.FILE) -> bytes:
    """A well-formed entry of any name."""
    raw = name.encode() if isinstance(name, str) else name
    return write_header(Header(raw, len(data), kind)) + data + bytes(padding(len(data)))


def sealed(block: bytearray) -> bytes:
    """A header block with its checksum made right."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def altered(at: int, value: bytes, name: bytes = b"victim", size: int = 0) -> bytes:
    """A file's header with other bytes at an offset, and a right checksum."""
    block = bytearray(write_header(Header(name, size, EntryType.FILE)))
    block[at : at + len(value)] = value
    return sealed(block)


def by_tarfile(kind: bytes, *, linkname: str = "", pax: dict[str, str] | None = None) -> bytes:
    """An entry as Python's own tarfile writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("victim")
        info.type, info.linkname = kind, linkname
        info.pax_headers = pax or {}
        tar.addfile(info)
    return out.getvalue()


def _long_name(name: bytes, following: bytes) -> bytes:
    return entry(b"././@LongLink", name, EntryType.LONG_NAME) + following


def hostile() -> Iterator[tuple[str, bytes]]:
    """(what is wrong, archive)."""
    plain, folder = entry("victim", b"x"), entry("victim/", kind=EntryType.DIRECTORY)
    names: dict[str, bytes | str] = {
        "absolute": "/etc/victim",
        "two slashes before": "//victim",
        "parent": "../victim",
        "parent within": "a/../../victim",
        "parent at the end": "a/..",
        "parent alone": "..",
        "dot": ".",
        "dot before": "./victim",
        "dot within": "a/./victim",
        "empty": "",
        "empty component": "a//victim",
        "slash alone": "/",
        "line feed": "a\nvictim",
        "escape": "a\x1b[2Jvictim",
        "delete": "a\x7fvictim",
        "second control set": "a\x9bvictim",
        "not UTF-8": b"a\xffvictim",
        "lone surrogate": b"a\xed\xa0\x80victim",
        "overlong slash": b"..\xc0\xafvictim",
        "component too long": "v" * 256,
        "path too long": "/".join(["v" * 100] * 11),
        "too deep": "/".join(["v"] * 40),
        "file with a folder's name": "victim/",
    }
    for what, name in names.items():
        yield f"name: {what}", entry(name, b"x") + END
    yield "name: NUL within a long name", _long_name(b"safe\0/../victim\0", plain) + END
    yield "name: parent in a long name", _long_name(b"../victim\0", plain) + END
    yield "name: long name twice", _long_name(b"a\0", _long_name(b"b\0", plain)) + END
    yield "name: long name of a megabyte", _long_name(b"a" * 1_000_000, plain) + END
    yield "name: empty long name", _long_name(b"", plain) + END
    yield "name: long name without an entry", _long_name(b"a\0", END)
    yield "name: parent in the prefix", altered(345, b"..") + END
    yield "name: absolute prefix", altered(345, b"/etc") + END
    kinds = {
        "symbolic link": (tarfile.SYMTYPE, "/etc/passwd"),
        "hard link": (tarfile.LNKTYPE, "/etc/passwd"),
        "character device": (tarfile.CHRTYPE, ""),
        "block device": (tarfile.BLKTYPE, ""),
        "fifo": (tarfile.FIFOTYPE, ""),
        "contiguous file": (tarfile.CONTTYPE, ""),
        "sparse file": (tarfile.GNUTYPE_SPARSE, ""),
        "long link": (tarfile.GNUTYPE_LONGLINK, ""),
    }
    for what, (kind, target) in kinds.items():
        yield f"kind: {what}", by_tarfile(kind, linkname=target)
    yield "kind: pax path", by_tarfile(tarfile.REGTYPE, pax={"path": "../victim"})
    yield "kind: pax size", by_tarfile(tarfile.REGTYPE, pax={"size": "999999"})
    yield "kind: pax sparse", by_tarfile(tarfile.REGTYPE, pax={"GNU.sparse.major": "1"})
    yield "kind: global pax", altered(156, b"g") + END
    yield "kind: unknown", altered(156, b"Z") + END
    yield "kind: volume label", altered(156, b"V") + END
    yield "link then a file through it", altered(156, b"2", b"a") + entry("a/victim", b"x") + END
    yield "size: not octal", altered(124, b"99999999999\0") + END
    yield "size: negative", altered(124, b"-0000000001\0") + END
    yield "size: binary", altered(124, b"\x80" + bytes(10) + b"\x01") + b"x" * 512 + END
    yield "size: binary negative", altered(124, b"\xff" * 12) + END
    yield "size: empty", altered(124, bytes(12)) + END
    yield "size: more than there is", altered(124, b"%011o\0" % 4096) + b"x" * 512
    yield "size: more than is taken", altered(124, b"%011o\0" % (8**11 - 1)) + END
    yield "size: folder with data", altered(156, b"5", b"victim", 512) + b"x" * 512 + END
    yield "size: total", b"".join(entry(f"v{i}", b"x" * 60_000) for i in range(20)) + END
    yield "count", b"".join(entry(f"v{i}") for i in range(101)) + END
    yield "count: implied folders", b"".join(entry(f"v{i}/w") for i in range(60)) + END
    yield "twice: file", plain + plain + END
    yield "twice: folder", folder + folder + END
    yield "twice: folder, then file", folder + plain + END
    yield "twice: file, then folder", plain + folder + END
    yield "twice: file, then a file in it", plain + entry("victim/a", b"x") + END
    yield "twice: implied folder, then file", entry("victim/a", b"x") + plain + END
    yield "checksum", plain[:148] + b"0000000\0" + plain[156:] + END
    yield "mode: not octal", altered(100, b"rwxr-xr\0") + END
    yield "padding with data", plain[:-1] + b"y" + END
    yield "end: missing", plain
    yield "end: by half", plain + bytes(BLOCK_BYTES) + plain
    yield "end: trailing entry", plain + END + entry("other", b"x")
    yield "end: trailing byte", plain + END + b"\x01"
    yield "end: zeros without end", plain + END + bytes(1_000_000)
    yield "end: within a header", plain[:300]
    yield "end: within data", plain[:512]
    yield "nothing", b""
    yield "noise", bytes(range(256)) * 4
    yield "compressed", b"\x1f\x8b\x08" + bytes(1021)
