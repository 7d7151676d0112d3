"""Files into records: what a file is, and a reader for each format. Every record keeps its line."""
