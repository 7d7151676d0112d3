"""A process of its own in which chat templates are rendered: a template is a program written by strangers.

Run as a module, it reads one JSON request a line and answers with one JSON line: `{"template", "messages", "tools",
"tokens", "cuts", "seconds"}`, where each cut `[count, prompt]` asks for the first `count` messages, with or without the
words that begin an answer, gives `{"texts": [...]}` or `{"error": ...}`. A request that takes more than its seconds of
computing ends the process, whatever it is doing; so does the end of the input.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

MEMORY = 256 * 1024**2  # bytes beyond what the process begins with: a template that asks for more gets MemoryError
LARGEST = 1_000_000  # characters of all texts of one request


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The texts a request asks for, or why there are none."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts: list[str] = []
    room = LARGEST
    for count, prompt in request["cuts"]:
        try:
            rendered, _ = render_jinja_template(
                conversations=[request["messages"][:count]],
                tools=request["tools"],
                chat_template=request["template"],
                add_generation_prompt=prompt,
                **request["tokens"],
            )
        except MemoryError:
            return {"error": f"it asks for more than {MEMORY // 1024**2} MB of memory"}
        except RecursionError:
            return {"error": "it calls itself without end"}
        except Exception as error:
            words = " ".join(str(error).split())
            return {"error": f"{words or type(error).__name__}"[:300]}
        room -= len(rendered[0])
        if room < 0:
            return {"error": f"it writes more than {LARGEST:,} characters"}
        texts.append(rendered[0])
    return {"texts": texts}


def limit_computing(seconds: float) -> None:
    """End this process after so much computing from now on; 0: no limit. Not every system can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import signal

        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, which nothing here handles, ends a process


def limit_memory() -> None:
    """Not every system can; then what takes too much is stopped for taking too long."""
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    sys.stdout = sys.stderr  # whatever a library prints must not mix with the replies
    import transformers.utils.chat_template_utils as _  # noqa: F401, before memory is limited

    limit_memory()
    replies.write('{"ready": true}\n')
    replies.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        limit_computing(request["seconds"])
        reply = json.dumps(answer(request))
        limit_computing(0)
        replies.write(reply + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
