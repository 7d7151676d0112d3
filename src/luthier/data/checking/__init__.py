"""What is wrong with rows, and the repairs of files that `luthier check` offers."""
