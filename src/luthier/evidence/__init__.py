"""Evidence: scores with intervals beside honest baselines, how the training went, and what to conclude.

Each file is one part; callers import the part they need: `from luthier.evidence.score import evaluate`.
"""
