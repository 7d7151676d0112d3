"""Records into rows: which column is which field, and what its cells must hold."""
