"""Implementations, and the choice among them. Nothing here validates an argument or raises."""
