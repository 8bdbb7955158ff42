"""Complete sagas to copy and change, one in each file. ``docs/cookbook.md`` shows each saga with its picture."""
