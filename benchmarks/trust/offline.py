"""B19: the test suite in a network namespace that has no way out, and how often something looked for one.

Two counts: Python's own sockets and look-ups, by tests/no_network; and what the kernel could not route, whichever
language asked. Linux, and the right to make a namespace (root, or user namespaces).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bars import Bar, Trial

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
QUICK = ("tests/test_errors.py",)  # load no torch
MANY = 20  # files from which on it takes several processes
TWINS = {
    "asks-in-python": "luthier connects to someone while it looks for a name, and does not mind that it cannot",
    "asks-in-another-language": "a library that is not Python's does",
    "asks-in-a-child": "a process that luthier starts does",
}
_ELSEWHERE = "203.0.113.7"  # an address for examples, which nobody has


@cache
def without_network() -> tuple[str, ...]:
    """The command that begins a process with no network but its own; () where this machine does not allow it."""
    for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return ()


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """One test file each, all in one process, and a last one of what the kernel counted.

    Less than all: some that load no torch. The last trial says what the kernel saw.
    """
    files = sorted(p.relative_to(ROOT).as_posix() for p in TESTS.rglob("test_*.py"))
    if count < len(files):
        files = list(QUICK) if count <= len(QUICK) else random.Random(seed).sample(files, count)
    yield from run(files[:count], twin)


def run(arguments: Sequence[str], twin: str = "", extra: Sequence[str] = ()) -> Iterator[Trial]:
    """A trial for each test file that these pytest arguments choose, and one for the kernel's count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report, counts, notes = folder / "report.xml", folder / "counts.json", folder / "outbound"
        notes.touch()
        environment = {**os.environ, "OFFLINE_TWIN": twin, "LUTHIER_TEST_OUTBOUND": str(notes), "LUTHIER_OFFLINE": "1"}
        paths = [str(ROOT / "src"), str(Path(__file__).parent), str(TESTS)]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment.pop("PYTEST_XDIST_WORKER", None)  # these notes are for all of its tests
        command = [*without_network(), sys.executable, __file__, str(counts), "-p", "offline", "-q"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_family=xunit1", *arguments, *extra]
        if len(arguments) > MANY:  # on several workers a test that tries to get out still fails, by its own notes
            command += ["--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        if not report.exists() or not counts.exists():
            yield Trial("pytest", f"it left with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
            return
        yield from _by_file(report)
        unrouted, tries = json.loads(counts.read_text())["unrouted"], notes.read_text().splitlines()
        said = f"{unrouted} packets without a way out" if unrouted else ""
        said = "; ".join(filter(None, [said, f"tried: {', '.join(sorted(set(tries)))}" if tries else ""]))
        yield Trial("outbound attempts", said)


def _by_file(report: Path) -> Iterator[Trial]:
    """The tests of each file; skipped ones are no fault."""
    faults: dict[str, list[str]] = {}
    for case in tree.parse(report).getroot().iter("testcase"):
        file = case.get("file") or case.get("classname") or "?"
        bad = [child for child in case if child.tag in ("failure", "error")]
        faults.setdefault(file, []).extend(f"{case.get('name')}: {(one.get('message') or '')[:160]}" for one in bad)
    for file, said in faults.items():
        yield Trial(file, "; ".join(said[:5]))


# Inside the namespace


def _main() -> int:
    """Begin the loopback, run pytest, write down what the kernel could not route."""
    counts, arguments = Path(sys.argv[1]), sys.argv[2:]
    _begin_loopback()
    if _has_route():
        print("there is a way out of here", file=sys.stderr)
        return 1
    before = _unrouted()
    code = subprocess.run([sys.executable, "-m", "pytest", *arguments]).returncode
    counts.write_text(json.dumps({"unrouted": _unrouted() - before, "code": code}))
    return code


def _begin_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(one, 0x8914, up)  # SIOCSIFFLAGS


def _has_route() -> bool:
    return len(Path("/proc/net/route").read_text().splitlines()) > 1  # the first names the columns


def _unrouted() -> int:
    """Packets and connections that the kernel of this namespace had no route for, IPv4 and 6."""
    total = 0
    names: list[str] = []
    for line in Path("/proc/net/snmp").read_text().splitlines():
        if line.startswith("Ip:"):
            values = line.split()[1:]
            total += int(values[names.index("OutNoRoutes")]) if names else 0
            names = values
    six = Path("/proc/net/snmp6")
    for line in six.read_text().splitlines() if six.exists() else ():
        if line.startswith("Ip6OutNoRoutes"):
            total += int(line.split()[1])
    return total


def pytest_configure(config: Any) -> None:
    """The bug of a twin, put into the process of the tests."""
    twin = os.environ.get("OFFLINE_TWIN")
    if not twin:
        return
    import luthier.errors

    nearest = luthier.errors.edit_distance

    asked: list[str] = []

    def asking(*args: Any) -> Any:
        if not asked:
            asked.append(twin)
            _ask(twin)
        return nearest(*args)

    luthier.errors.edit_distance = asking


def _ask(twin: str) -> None:
    if twin == "asks-in-another-language":
        import ctypes

        libc = ctypes.CDLL(None)
        one = libc.socket(2, 1, 0)
        libc.connect(one, struct.pack("!HH4s8x", socket.htons(2), 443, socket.inet_aton(_ELSEWHERE)), 16)
        libc.close(one)
        return
    program = f"import socket\ntry: socket.create_connection(('{_ELSEWHERE}', 443), 1)\nexcept OSError: pass"
    if twin == "asks-in-a-child":
        subprocess.run([sys.executable, "-c", program])
        return
    with contextlib.suppress(OSError):
        socket.create_connection((_ELSEWHERE, 443), 1)


BAR = Bar(
    "offline",
    "The suite passes in a namespace with no way out, and nothing looks for one.",
    10_000,
    trials,
    TWINS,
)

if __name__ == "__main__":
    raise SystemExit(_main())
