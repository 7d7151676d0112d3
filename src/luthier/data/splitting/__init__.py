"""Rows into splits: what makes rows the same, what may not be torn apart, and what leaks."""
