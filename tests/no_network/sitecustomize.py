"""Python runs this at the start of a process whose PYTHONPATH names this folder: tests' children are watched, too."""

import os
import sys

if os.environ.get("LUTHIER_TEST_OUTBOUND"):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    import outbound
    import torch_processes

    del sys.path[0]
    outbound.watch()
    torch_processes.watch()
