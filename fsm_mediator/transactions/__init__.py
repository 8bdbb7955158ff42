"""Transactional steps: steps that take effect exactly once, in transactions of the user's own database.

```python
tx = Transactions.sqlalchemy(engine)


@tx.step
def debit(session, order, context): ...


@debit.compensation
def credit(session, order, context): ...
```
"""

from fsm_mediator.transactions.errors import AttemptOpenError, TransactionError
from fsm_mediator.transactions.outbox import Lag
from fsm_mediator.transactions.pruning import Pruned
from fsm_mediator.transactions.steps import TransactionalStep
from fsm_mediator.transactions.transactions import Transactions

__all__ = ["AttemptOpenError", "Lag", "Pruned", "TransactionError", "TransactionalStep", "Transactions"]
