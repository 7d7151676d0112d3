"""What a model is held against: answers that cost nothing, or a count of words."""
