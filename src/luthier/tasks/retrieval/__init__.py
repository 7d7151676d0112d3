"""What embedding stands on: rows of texts, scores of search and likeness, baselines, the folder that is saved."""
