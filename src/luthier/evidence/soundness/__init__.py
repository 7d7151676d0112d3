"""Is the data sound, enough and varied? Looked at with models that cost seconds."""

from .balance import Balance, balance
from .contradicted import KINDS, contradicted
from .copies import near_copies
from .doubts import Doubt, Doubts, held_against
from .enough import SHARES, Curve, learning_curve
from .giveaway import giveaways
from .label_errors import doubtful
from .overlap import overlaps, read_benchmark
from .tables import doubt_words, soundness_tables
from .variety import Variety, variety

__all__ = [
    "KINDS",
    "SHARES",
    "Balance",
    "Curve",
    "Doubt",
    "Doubts",
    "Variety",
    "balance",
    "contradicted",
    "doubt_words",
    "doubtful",
    "giveaways",
    "held_against",
    "learning_curve",
    "near_copies",
    "overlaps",
    "read_benchmark",
    "soundness_tables",
    "variety",
]
