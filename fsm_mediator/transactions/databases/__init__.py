"""The databases that `Transactions` can use. Each implements the protocol `Database`."""
