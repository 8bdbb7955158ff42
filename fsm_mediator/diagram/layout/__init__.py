"""Layouts: the positions of the boxes and lines of a picture."""
