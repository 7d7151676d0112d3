"""Dialogs: a chat template, rendered in safety, and the tokens of what the assistant says in them."""
