"""The databases that `Transactions` can use, each behind the same few questions."""
