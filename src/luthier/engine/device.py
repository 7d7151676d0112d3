"""The machine: which device, which precision pays on it, how many threads, how memory is asked for."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

TOKEN_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}
"""Padded tokens in one micro-batch where the recipe says `auto`: constants, so that free memory never decides."""


def token_budget(device: str, kind: str) -> int:
    """The tokens of one micro-batch where the recipe says `auto`, for a model of this kind.

    On a CPU half as many for a model that writes: it keeps twice as much of a token, and is no faster with more.
    """
    return TOKEN_BUDGET[device] // (2 if device == "cpu" and kind != "encoder" else 1)


@dataclass(frozen=True)
class Machine:
    """What a run computes with; everything in it is written into the recipe or environment.json."""

    device: str  # cpu, cuda or mps
    dtype: str  # float32 or bfloat16: what products are computed in; weights stay float32
    name: str
    threads: int

    @property
    def bf16(self) -> bool:
        return self.dtype == "bfloat16"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Matrix products in bf16, where this machine computes in it."""
        return torch.autocast(self.device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()


def find_machine(dtype: str = "auto", memory: Path | None = None) -> Machine:
    """The best device here; `dtype: auto` is measured once and remembered in the file `memory`."""
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # each of several processes has a GPU of its own
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    if dtype == "auto":
        if device == "cuda":
            dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        elif device == "mps":
            dtype = "float32"
        else:
            dtype = _faster_dtype(name, memory)
    return Machine(device, dtype, name, torch.get_num_threads())


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _faster_dtype(name: str, memory: Path | None) -> str:
    key = f"{name} | {torch.get_num_threads()} threads | torch {torch.__version__} | {_flags()}"
    known: dict[str, str] = {}
    if memory is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = dict(json.loads(memory.read_text()))
    if known.get(key) not in ("bfloat16", "float32"):
        known[key] = "bfloat16" if _seconds(torch.float32) > 1.2 * _seconds(torch.bfloat16) else "float32"
        if memory is not None:
            with contextlib.suppress(OSError):
                memory.parent.mkdir(parents=True, exist_ok=True)
                part = memory.with_name(f"{memory.name}.{os.getpid()}")
                part.write_text(json.dumps(known, indent=1))
                part.replace(memory)
    return known[key]


def _flags() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _seconds(dtype: torch.dtype) -> float:
    """The best of five runs of a product the size of a small encoder's, forward and back."""
    x = torch.randn(1024, 384, dtype=dtype)
    w = torch.randn(384, 1536, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(4):
            y = x @ w
            y @ w.T
        best = min(best, time.perf_counter() - start)
    return best


def keep_memory() -> bool:
    """Ask glibc to keep freed memory instead of returning it to the system; True if it agreed.

    Every step frees and asks again for the same large blocks. By default each of them is mapped, cleared and
    unmapped by the kernel, page by page: 4 to 16 % of a training step of a small encoder on two cores
    in two profiles (decisions/0003-speed-on-a-cpu.md).
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # from malloc.h
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1) and mallopt(top_pad, 64 << 20))


def give_back_memory() -> bool:
    """Hand freed memory back once, where `keep_memory` holds on to it; True if there was any.

    After a model was loaded and its weights replaced by shorter ones, what they left is in pieces too small to be of
    use for activations.
    """
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _glibc(name: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6", use_errno=True), name)
    except (OSError, AttributeError):
        return None


def peak_memory() -> int:
    """The most memory this process ever held, in bytes (on a GPU: on the GPU)."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


AHEAD = 96 << 20
"""Bytes that are asked for ahead and not used: the heap's next block (see `keep_memory`) and threads' own."""


def resident_memory() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not tell."""
    return _status("VmRSS")


def available_memory(processes: int = 1) -> int:
    """The most that this process may hold, in bytes: what it holds and what is free, under every limit set on it.

    What is free of the machine and of the control group is shared by so many `processes`.

    Limits: free memory of the machine, the control group's (as containers set), `ulimit -v` and `-d`. 0 where the
    system does not tell.
    """
    held = resident_memory()
    limits = [held + free // processes for free in (_machine_free(), *_group_free()) if free is not None]
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        for kind, counted in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            soft = resource.getrlimit(kind)[0]
            if soft != resource.RLIM_INFINITY:
                limits.append(max(0, soft - (_status(counted) - held) - AHEAD))
    return min(limits, default=0)


def _status(key: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0


def _machine_free() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _group_free() -> list[int]:
    """Bytes that may still be asked for in each control group this process is in (versions 1 and 2)."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = Path("/sys/fs/cgroup", "memory" if controllers else "")
            most, used = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            for folder in {root / place.lstrip("/"), root}:
                with contextlib.suppress(OSError, ValueError):
                    limit = int((folder / most).read_text())  # "max": no limit
                    found.append(max(0, limit - int((folder / used).read_text()) + _cached(folder)))
    return found


def _cached(folder: Path) -> int:
    """Bytes of files that a control group holds in memory and would give up."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0
