"""The databases that `Transactions` can use: one module for each, with a class for the protocol `Database`."""
