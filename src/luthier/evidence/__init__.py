"""Evidence: is the data sound, what did training do, and should the model be used?

Rooms: `soundness` (the data), `baselines`, `scores`, `learning`, `robustness`, `bias`, `report`; `verdict` draws the
conclusion from all of them. Callers import the part they need: `from luthier.evidence.scores.score import evaluate`.
"""
