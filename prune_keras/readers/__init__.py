"""Readers: which layers read neurons by a kernel, and what of their input each response reads."""
