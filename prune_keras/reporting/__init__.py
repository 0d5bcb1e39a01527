"""What a report holds, how it is stored, and how it becomes text or a page."""
