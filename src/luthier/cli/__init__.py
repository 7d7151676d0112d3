"""The command line: each verb reads its arguments, calls one function and prints what came of it."""

from .app import main

__all__ = ["main"]
