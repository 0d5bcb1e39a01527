"""Charts of a report: each function draws one, from plain records, and shows no window."""
