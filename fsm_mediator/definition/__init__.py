"""The definition of a saga: steps, waits and groups, as a user writes them."""
