"""Does a model still answer well when texts are written a little differently?"""

from .measured import Robustness, measure_robustness
from .paraphrase import Paraphrases
from .perturbed import KINDS, perturbed, spoken_text

__all__ = ["KINDS", "Paraphrases", "Robustness", "measure_robustness", "perturbed", "spoken_text"]
