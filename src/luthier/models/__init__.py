"""Where a model comes from (catalogue, hub, folder, earlier run), what it is, and how it is loaded safely."""

from .catalogue import CATALOGUE, Entry
from .fetch import fetch, here
from .get import get
from .home import data_home, home, models_home, offline
from .kinds import Kind
from .listing import listing
from .load import copy_grown, dropout_settings, load_pretrained, load_tokenizer
from .source import Source, inspect, resolve

__all__ = [
    "CATALOGUE",
    "Entry",
    "Kind",
    "Source",
    "copy_grown",
    "data_home",
    "dropout_settings",
    "fetch",
    "get",
    "here",
    "home",
    "inspect",
    "listing",
    "load_pretrained",
    "load_tokenizer",
    "models_home",
    "offline",
    "resolve",
]
