"""Views of one Report: text, JSON, metrics."""
