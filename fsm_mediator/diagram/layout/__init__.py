"""Layouts: where the boxes and lines of a picture go."""
