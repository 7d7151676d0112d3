"""The methods luthier can tune with. A new method is one file here and one line below."""

from .base import Method as Method
from .base import learned as learned
from .frozen import Frozen
from .full import Full
from .lora import Lora

METHODS: dict[str, type[Method]] = {
    "full": Full,
    "frozen": Frozen,
    "lora": Lora,
}
