"""The report as a page that people read."""
