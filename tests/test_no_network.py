"""What fails a test that tries to leave this machine, tried itself."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

import outbound

ELSEWHERE = "203.0.113.7"  # an address for examples, which nobody has


def test_a_try_to_leave_is_refused_and_noted_even_where_the_code_does_not_mind() -> None:
    tries = [
        lambda: socket.create_connection((ELSEWHERE, 443), timeout=1),
        lambda: socket.getaddrinfo("huggingface.co", 443),
        lambda: socket.gethostbyname("huggingface.co"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (ELSEWHERE, 53)),
    ]
    with outbound.expected() as noted:
        for one in tries:
            with pytest.raises(OSError, match="no network in tests"):
                one()
    assert len(noted) >= len(tries)
    assert f"socket.sendto {ELSEWHERE}" in noted and "socket.gethostbyname huggingface.co" in noted


def test_a_child_process_is_watched_too() -> None:
    program = f"import socket\ntry: socket.create_connection(('{ELSEWHERE}', 80), timeout=1)\nexcept OSError: pass"
    with outbound.expected() as noted:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert any(ELSEWHERE in line for line in noted)


def test_this_machine_may_be_asked() -> None:
    with outbound.expected() as noted:
        assert socket.getaddrinfo("localhost", 80) and socket.getaddrinfo(None, 80)
        with socket.create_server(("127.0.0.1", 0)) as server:
            answer = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
            answer.start()
            socket.create_connection(server.getsockname(), timeout=5).close()
            answer.join(5)
    assert noted == []
