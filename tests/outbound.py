"""Every try to reach another machine, refused and noted: this one's own addresses are all there is.

Python tells of its own sockets alone; what other languages do, benchmarks/trust/offline.py counts in the kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

NOTES = "LUTHIER_TEST_OUTBOUND"  # environment variable: the file that takes a line a try, of child processes too
CHILDREN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "no_network")  # noqa: PTH100, PTH118, PTH120
_CONNECTS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")


def begin() -> None:
    """For the process of the tests and all it starts. A proxy on this machine would carry what is meant for others."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    if NOTES not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:  # several run tests: each has notes of its own
        notes = tempfile.NamedTemporaryFile(prefix="luthier-outbound-")  # noqa: SIM115, gone with this process
        atexit.register(notes.close)
        os.environ[NOTES] = notes.name
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), CHILDREN) if p)
    sys.path.append(CHILDREN)  # for children that are given the path of this process
    watch()


def watch() -> None:
    """From now on, in this process; what Python adds to be told of everything cannot be taken away again."""
    sys.addaudithook(_refuse)


def tried(since: int = 0) -> tuple[list[str], int]:
    """The tries noted beyond the first `since` bytes, and how many bytes there are now."""
    path = os.environ.get(NOTES)
    try:
        with open(path or os.devnull, "rb") as file:  # noqa: PTH123, cheap enough for the start of every process
            file.seek(since)
            new = file.read()
    except FileNotFoundError:
        new = b""
    return new.decode(errors="replace").splitlines(), since + len(new)


@contextlib.contextmanager
def expected() -> Iterator[list[str]]:
    """For a test of these notes: what is tried inside is put into the list, and forgotten."""
    _, before = tried()
    found: list[str] = []
    try:
        yield found
    finally:
        found += tried(before)[0]
        if path := os.environ.get(NOTES):
            os.truncate(path, before)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event in _CONNECTS:
        address = args[1] if len(args) > 1 else None
    elif event in _LOOKS_UP:
        address = args[0]
    else:
        return
    host = address[0] if isinstance(address, tuple) and address else address
    if not isinstance(host, (str, bytes)) or (event in _CONNECTS and not isinstance(address, tuple)):
        return  # no name at all, or a socket of this machine's files
    name = host.decode(errors="replace") if isinstance(host, bytes) else host
    if _is_here(name):
        return
    if path := os.environ.get(NOTES):
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{event} {name}\n")
    raise OSError(errno.ENETUNREACH, f"no network in tests ({event} {name})")


def _is_here(name: str) -> bool:
    import ipaddress

    if name in ("", "localhost", "localhost.localdomain") or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
