"""The definition: what a user writes. Steps, waits and groups, put together as a saga."""
