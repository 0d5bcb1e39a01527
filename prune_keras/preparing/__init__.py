"""Training that prepares for a cut: what is dropped, penalized or trained for it, and where."""
