"""A task put to a language model in words: its requests, and what is heard in the answers."""
