"""Discrimination-aware channel pruning: neurons are chosen family after family, and trained."""
