"""Entities: tags of words, their word pieces, and what a model says of them in its own words."""
