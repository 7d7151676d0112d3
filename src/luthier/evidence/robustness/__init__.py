"""Does a model still answer well when texts are written a little differently?"""

from .measured import Robustness, measure_robustness
from .perturbed import KINDS, perturbed

__all__ = ["KINDS", "Robustness", "measure_robustness", "perturbed"]
