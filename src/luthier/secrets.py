"""Texts without tokens, passwords in addresses, and values of environment variables that are called like secrets."""

from __future__ import annotations

import os
import re

LEFT_OUT = "[left out]"
_SHORTEST = 8  # characters of an environment variable's value that is looked for
_PLACES = ("/", "~", "http://", "https://")  # where a secret is kept, which is none itself
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTHORIZATION", re.IGNORECASE
)
_ADDRESS = r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)|(?<=://)[^/\s:@'\"]{8,}(?=@)"
_WHOLE = r"\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]+|"
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-(?:[a-z]+-)?[A-Za-z0-9]{20,}|gh[posu]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{15,}|xox[abp]-[A-Za-z0-9-]{15,})|" + _WHOLE + _ADDRESS
)
# In a report that is shared, also what only may be one.
_SUSPECT = re.compile(
    r"\b(?:hf|sk|gh[posu]|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{10,}|"
    + _WHOLE
    + _ADDRESS
    + r"|(?i:(?<=token=)|(?<=key=)"
    r"|(?<=secret=)|(?<=password=)|(?<=passwd=)|(?<=authorization: bearer )|(?<=authorization: basic ))[^\s'\"&]+"
)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(text: str, *, shared: bool = False) -> str:
    """`text` with "[left out]" for each secret; `shared`: also for what may be one, such as what follows `key=`."""
    values = {
        value
        for name, value in os.environ.items()
        if is_secret_name(name) and len(value) >= _SHORTEST and not value.startswith(_PLACES)
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, LEFT_OUT)
    return (_SUSPECT if shared else _TOKEN).sub(LEFT_OUT, text)


def holds_secret(text: str) -> bool:
    return without_secrets(text) != text
