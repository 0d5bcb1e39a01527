"""Repair: what makes up, without training, for neurons that go."""
