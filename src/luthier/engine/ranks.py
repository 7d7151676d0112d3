"""The processes that work on one run together, as torchrun and `accelerate launch` start them.

Each is a rank; rank 0 is the main one, which alone writes and speaks. They meet in collectives (gloo on CPUs), which
wait as long as a rank lives: no reading of rows is too long. A rank that leaves closes its connections, which ends
the others' waiting at once, and leaves a note that says why; of one that was killed its process number tells.

What stands here is about order and exactness: items are shared and joined so that every result is what one process
would have computed, in the same order.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from luthier.errors import InputError, Interrupted, LuthierError, ResourceError, RunError, is_out_of_memory
from luthier.processes import alive, start_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn import Parameter

T = TypeVar("T")

NO_LIMIT = datetime.timedelta(days=30)  # of a collective: whoever waits in one is woken by a connection that closes
MEETS = datetime.timedelta(minutes=10)  # within which all must have started
WAKES = 5.0  # seconds within which ranks that were left have said so
LEAVES = 25.0  # seconds that a rank gives the main one to say why it leaves
BUCKET = 1 << 24  # numbers that are added up at once


def world() -> int:
    """How many processes were started together; 1 outside torchrun and its like."""
    count = os.environ.get("WORLD_SIZE", "")
    return int(count) if count.isdecimal() and int(count) > 1 else 1


def beside() -> bool:
    """Whether this process works beside a main one, which speaks for it."""
    return world() > 1 and os.environ.get("RANK", "0") != "0"


@dataclass(frozen=True)
class Ranks:
    """`rank` of `count`; one process alone meets nobody."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's items: every `count`-th."""
        return items[self.rank :: self.count]

    def joined(self, own: Sequence[T]) -> list[T]:
        """Of what every rank made of its `share`, one entry an item: all entries in the items' order, on every rank."""
        parts = self._gathered(list(own))
        return [parts[i % self.count][i // self.count] for i in range(sum(map(len, parts)))]

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives on the main rank, which alone calls it."""
        found: T = self._gathered(make() if self.main else None)[0]
        return found

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main rank does what is inside before the others do: what it fetches or writes they find there."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def wait(self) -> None:
        """Until every rank is here."""
        self._gathered(None)

    def same(self, what: str, value: str) -> None:
        """RunError unless every rank has this value."""
        if self.count == 1:
            return
        values = self._gathered(hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest())
        if odd := [rank for rank, one in enumerate(values) if one != values[0]]:
            raise RunError(
                f"rank {odd[0]} has another {what} than the main rank",
                where=f"{self.count} processes",
                fix="give all of them the same files, versions and settings",
            )

    def same_weights(self, model: nn.Module) -> None:
        """RunError unless every rank holds the same model, to the bit."""
        if self.count == 1:
            return
        import torch

        digest = hashlib.sha256()
        for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda one: one[0]):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        self.same("model", digest.hexdigest())

    def largest(self, value: int) -> int:
        """The largest of all ranks' values."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        told = torch.tensor([value])
        with _meeting():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return int(told)

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.count > 1:
            import torch.distributed as dist

            with _meeting():
                dist.all_reduce(tensor, group=_here().group_for(tensor))
        return tensor

    def add_up_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Each gradient becomes the sum of all ranks'. One that no rank has stays away, as it would in one process."""
        if self.count == 1:
            return
        import torch

        there = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        there = self.add_up(there)
        bucket: list[Tensor] = []
        numbers = 0
        for parameter, has in zip(parameters, there.tolist()):
            if not has:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            same_kind = not bucket or (bucket[0].dtype, bucket[0].device) == (parameter.dtype, parameter.device)
            if not same_kind or numbers + parameter.numel() > BUCKET:
                self._add_up_together(bucket)
                bucket, numbers = [], 0
            bucket.append(parameter.grad)
            numbers += parameter.numel()
        self._add_up_together(bucket)

    def _add_up_together(self, tensors: Sequence[Tensor]) -> None:
        import torch

        if not tensors:
            return
        flat = self.add_up(torch.cat([one.reshape(-1) for one in tensors]))
        for one, part in zip(tensors, flat.split([one.numel() for one in tensors])):
            one.copy_(part.view_as(one))

    def _gathered(self, value: Any) -> list[Any]:
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        out: list[Any] = [None] * self.count
        with _meeting():
            dist.all_gather_object(out, value)
        return out


ALONE = Ranks()


@contextlib.contextmanager
def together() -> Iterator[Ranks]:
    """The ranks that this process is one of; what ends the work inside in one of them ends it in all of them.

    A rank that fails is named in the others' error; where the main rank tells why, the others are `silenced`.
    """
    if world() == 1 or (_SESSIONS and _SESSIONS[0].inside):
        yield _SESSIONS[0].ranks if world() > 1 else ALONE
        return
    session = _here() if _SESSIONS else _Session.open()
    session.inside = True
    try:
        yield session.ranks
        session.ranks.wait()  # the main rank proves alone, and nobody is done before it is
    except BaseException as error:
        lost = session.lost() if isinstance(error, Interrupted) else None  # torchrun stops whoever is left
        session.leave(lost or error)
        if lost is not None:
            raise lost from None
        raise
    finally:
        session.inside = False


def silenced() -> bool:
    """Whether this process says nothing of how its work ended, because the main one does."""
    return beside() and not any(session.speaks for session in _SESSIONS)


class Lost(ResourceError):
    """Another rank is gone, without a word."""


class _Session:
    """The connections of a process to the others it was started with, from the first run until it ends."""

    def __init__(self, ranks: Ranks, store: Any, who: list[tuple[str, int, str | None]]) -> None:
        self.ranks, self.store, self.who = ranks, store, who
        self.inside = self.over = False
        self.speaks = False  # the main rank is gone: whoever is left says so
        self.nccl: Any = None

    @classmethod
    def open(cls) -> _Session:
        import torch
        import torch.distributed as dist

        try:
            store, rank, count = next(iter(dist.rendezvous("env://", timeout=MEETS)))
        except (ValueError, RuntimeError) as error:  # RuntimeError: nobody came, or the port is taken
            fix = "start it with torchrun or accelerate launch, or unset WORLD_SIZE"
            said = str(error).partition("\n")[0]
            raise RunError(f"WORLD_SIZE is {world()}, and {said}", where="luthier", fix=fix) from None
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=NO_LIMIT)
        atexit.register(_close)
        who: list[Any] = [None] * count
        dist.all_gather_object(who, (socket.gethostname(), os.getpid(), start_of(os.getpid())))
        session = cls(Ranks(rank, count), dist.PrefixStore("luthier", store), who)
        if torch.cuda.is_available():
            session.nccl = dist.new_group(backend="nccl", timeout=NO_LIMIT)
        _SESSIONS.append(session)
        return session

    def group_for(self, tensor: Tensor) -> Any:
        return self.nccl if tensor.is_cuda else None

    def note(self, rank: int) -> dict[str, Any] | None:
        """What a rank that left has said of it."""
        with contextlib.suppress(RuntimeError):
            if self.said(f"end-{rank}"):
                return dict(json.loads(self.store.get(f"end-{rank}")))
        return None

    def said(self, word: str) -> bool:
        if self.gone(0) and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return False  # the main rank held what was said
        with contextlib.suppress(RuntimeError):
            return bool(self.store.check([word]))
        return False

    def say(self, word: str, text: str) -> None:
        with contextlib.suppress(RuntimeError):
            self.store.set(word, text)

    def gone(self, rank: int) -> bool:
        host, pid, start = self.who[rank]
        return host == self.who[self.ranks.rank][0] and not alive(pid, start)

    def others(self) -> list[int]:
        return [rank for rank in range(self.ranks.count) if rank != self.ranks.rank]

    def lost(self) -> Lost | None:
        """The error of a rank that was killed; None while all live, or have said why they left."""
        for rank in self.others():
            if self.gone(rank) and self.note(rank) is None:
                host, pid, _ = self.who[rank]
                return Lost(
                    f"process {pid} on {host} ended without a word: it was killed, perhaps for want of memory",
                    where=f"rank {rank} of {self.ranks.count}",
                    fix="go on from the newest checkpoint with as many processes: torchrun ... -m luthier resume",
                )
        return None

    def why(self) -> LuthierError:
        """What a collective that was broken means: the first word of a rank that left, or the one that was killed."""
        end = time.monotonic() + WAKES
        while time.monotonic() < end:
            time.sleep(0.05)  # a process that is ending closes its connections first
            notes = [note for rank in self.others() if (note := self.note(rank)) is not None]
            if notes:
                return _as_error(notes[0])
            if (lost := self.lost()) is not None:
                return lost
        found = "a connection to another rank broke, and none has said why"
        return Lost(found, where=f"rank {self.ranks.rank}", fix="look at the other machines; then luthier resume")

    def leave(self, error: BaseException) -> None:
        """Say why, wake the others, and let the main rank tell it before torchrun ends whoever is left."""
        if self.over:
            return
        self.over = True
        _absorb_one_signal()
        self.say(f"end-{self.ranks.rank}", json.dumps(_as_note(error, self.ranks.rank)))
        _close()
        if self.ranks.main:
            _until(lambda: all(self.said(f"heard-{rank}") or self.gone(rank) for rank in self.others()), WAKES)
            return
        _until(lambda: self.note(0) is not None or self.gone(0), LEAVES)
        self.speaks = self.note(0) is None
        if not self.speaks:
            self.say(f"heard-{self.ranks.rank}", "")
            _until(lambda: self.gone(0), WAKES)


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not true():
        time.sleep(0.02)


_SESSIONS: list[_Session] = []


def _here() -> _Session:
    if _SESSIONS[0].over:
        found = "the processes that were started together have parted after an error"
        raise RunError(found, where="luthier", fix="start all of them again")
    return _SESSIONS[0]


@contextlib.contextmanager
def _meeting() -> Iterator[None]:
    session = _here()
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise session.why() from None


def _close() -> None:
    import torch.distributed as dist

    for session in _SESSIONS:
        session.nccl = None
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _absorb_one_signal() -> None:
    """torchrun ends the others as soon as one has left: the first such signal finds us leaving already."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def absorb(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before)

    signal.signal(signal.SIGTERM, absorb)


def _as_note(error: BaseException, rank: int) -> dict[str, Any]:
    """Why a rank leaves. An error that came from another rank's note is passed on as it was."""
    if (note := getattr(error, "note", None)) is not None:
        return dict(note)
    if isinstance(error, LuthierError):
        return {"rank": rank, "code": error.exit_code, "found": error.found, "where": error.where, "fix": error.fix}
    code = 130 if isinstance(error, KeyboardInterrupt) else LuthierError.exit_code
    said = (str(error).splitlines() or [""])[0][:300]
    return {"rank": rank, "code": code, "found": f"{type(error).__name__}: {said}", "where": "", "fix": ""}


def _as_error(note: dict[str, Any]) -> LuthierError:
    kinds = {one.exit_code: one for one in (InputError, ResourceError)}
    where = f"rank {note['rank']}" + (f": {note['where']}" if note["where"] else "")
    if note["code"] > 128:
        error: LuthierError = Interrupted(note["found"], signal=note["code"] - 128, where=where, fix=note["fix"])
    else:
        error = kinds.get(note["code"], LuthierError)(note["found"], where=where, fix=note["fix"])
    error.note = note  # type: ignore[attr-defined]
    return error
