"""Answers of a language model: written freely, bound to some texts, or weighed against each other."""
