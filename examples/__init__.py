"""Examples. Each example is a separate package: start it with ``python -m examples.<name>``."""
