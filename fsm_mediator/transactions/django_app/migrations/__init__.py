"""The Django migrations that create the tables of `Transactions`."""
