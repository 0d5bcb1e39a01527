"""Closed: why a layer cannot be looked into."""


class Closed(Exception):
    """Says why a layer cannot be looked into."""
