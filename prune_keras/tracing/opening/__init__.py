"""Opening: what layers without a rule are made of, recorded from their `call`."""
