"""Training language models: losses that hold no logits, packed and masked rows, and fast layers on a CPU."""
