"""The methods luthier can tune with, by what they cost. A new method is one file here and one line below."""

from .adapter import Adapter
from .base import Method as Method
from .base import learned as learned
from .few_shot import FewShot
from .frozen import Frozen
from .full import Full
from .lora import Lora
from .soft_prompt import SoftPrompt

METHODS: dict[str, type[Method]] = {
    "few-shot": FewShot,
    "frozen": Frozen,
    "soft-prompt": SoftPrompt,
    "adapter": Adapter,
    "lora": Lora,
    "full": Full,
}
