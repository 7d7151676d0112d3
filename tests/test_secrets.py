"""What is taken for a secret, and what is not: a path that is not shown as it is cannot be mended."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from luthier.errors import ModelError, RecipeError
from luthier.run.recipe import Recipe, read
from luthier.secrets import LEFT_OUT, is_secret_name, without_secrets


def test_what_is_a_secret_and_what_is_not() -> None:
    for text in (f"https://me:{'x' * 9}@host/a", "hf_" + "a1" * 15, "AKIA" + "A1" * 8, "https://abcdefghijkl@host"):
        assert LEFT_OUT in without_secrets(text), text
    for text in ("sk-learn-data.csv", "hf_models/a", "key=value", "a@b.c: d", "https://host/a?b=c@d", "me@host:~/x"):
        assert without_secrets(text) == text
    assert without_secrets("--set key=value", shared=True) == f"--set key={LEFT_OUT}"
    assert not is_secret_name("TOKENIZERS_PARALLELISM") and not is_secret_name("GIT_AUTHOR_NAME")
    assert not is_secret_name("SSH_AUTH_SOCK")
    with mock.patch.dict(os.environ, {"HF_TOKEN_PATH": "/home/me/token"}):
        assert without_secrets("there is no /home/me/token") == "there is no /home/me/token"
    with mock.patch.dict(os.environ, {"SOME_API_KEY": "forty-two-and-more", "ANY_TOKEN": "short"}):
        assert without_secrets("it is forty-two-and-more, short") == f"it is {LEFT_OUT}, short"


def test_errors_quote_no_password() -> None:
    error = ModelError("401 for https://me:a-password@host/x", where="https://me:a-password@host", fix="ask host")
    assert "a-password" not in f"{error}{error.found}{error.where}{error.args}"
    assert "host/x" in error.found and error.fix == "ask host"


def test_a_recipe_holds_no_password() -> None:
    sound = {"model": "minilm", "task": "classification", "data": {"train": "rows.csv"}}
    assert isinstance(read(sound)[0], Recipe)
    for changes in ({"model": "https://me:a-password@host/x"}, {"data": {"train": ["a.csv", "hf_" + "a1" * 15]}}):
        with pytest.raises(RecipeError, match="holds a token or a password") as caught:
            read({**sound, **changes})
        assert "a-password" not in str(caught.value) and "a1a1" not in str(caught.value)
