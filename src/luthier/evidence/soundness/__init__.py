"""Is the data sound, enough and varied? Looked at with models that cost seconds."""

from .doubts import Doubt, Doubts, held_against
from .enough import Curve, learning_curve
from .giveaway import giveaways
from .label_errors import doubtful
from .overlap import overlaps, read_benchmark
from .tables import doubt_words, soundness_tables
from .variety import Variety, variety

__all__ = [
    "Curve",
    "Doubt",
    "Doubts",
    "Variety",
    "doubt_words",
    "doubtful",
    "giveaways",
    "held_against",
    "learning_curve",
    "overlaps",
    "read_benchmark",
    "soundness_tables",
    "variety",
]
