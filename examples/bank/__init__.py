"""Two banks with a database each, and transfers between them that survive the death of any process.

Each step is one transaction of the bank's own database, with its key and its result in it (docs/exactly_once.md).
``python -m examples.bank`` transfers money while it kills the workers, and counts the money afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import sqlalchemy
from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from fsm_mediator import Context, Mediator, Retry, Saga, StepRejectedError
from fsm_mediator.transactions import TransactionalStep, Transactions

ACCOUNTS = 8
"""How many accounts each bank has. The last one of each is closed to deposits."""

FIRST_BALANCE = 1000

QUICK = Retry(attempts=20, wait_initial=0.02, wait_max=0.2)


class Transfer(msgspec.Struct, frozen=True):
    """An amount that goes from an account of one bank to an account of the other."""

    source: int
    target: int
    amount: int


class Table(DeclarativeBase):
    """The tables of a bank."""


class Account(Table):
    """An account, which is never overdrawn."""

    __tablename__ = "account"
    __table_args__ = (CheckConstraint("balance >= 0"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    closed: Mapped[bool]


class Entry(Table):
    """A movement of money. The table allows the same movement to be entered twice."""

    __tablename__ = "entry"

    number: Mapped[int] = mapped_column(primary_key=True)
    transfer: Mapped[str]
    kind: Mapped[str]
    account: Mapped[int] = mapped_column(ForeignKey("account.number"))
    amount: Mapped[int]


def move(session: Session, account: int, amount: int, kind: str, transfer: str) -> int:
    """Change a balance, and enter the movement. Returns the new balance."""
    found = session.get_one(Account, account, with_for_update=True)
    if kind == "deposit" and found.closed:
        raise StepRejectedError(f"account {account} is closed")
    if found.balance + amount < 0:
        raise StepRejectedError(f"account {account} has {found.balance}, and {-amount} were to be withdrawn")
    found.balance += amount
    session.add(Entry(transfer=transfer, kind=kind, account=account, amount=amount))
    session.flush()
    return found.balance


class Bank:
    """A bank: its database, and the steps that move its money.

    Args:
        url: The URL of the bank's database, in the format of SQLAlchemy.
    """

    def __init__(self, url: str) -> None:
        # Without a pool, so that no connection crosses the fork that makes a worker.
        self.engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        self.tx = Transactions.sqlalchemy(self.engine)

    def open(self) -> None:
        """Make the tables and the accounts."""
        Table.metadata.create_all(self.engine)
        self.tx.migrate()
        with Session(self.engine) as session, session.begin():
            session.add_all(
                Account(number=number, balance=FIRST_BALANCE, closed=number == ACCOUNTS)
                for number in range(1, ACCOUNTS + 1)
            )

    def withdrawing(self) -> TransactionalStep:
        """The step that takes the money from the source; its compensation gives it back."""

        @self.tx.step(retry=QUICK)
        def withdraw(session: Session, transfer: Transfer, context: Context) -> int:
            return move(session, transfer.source, -transfer.amount, "withdraw", context.saga_id)

        @withdraw.compensation
        def refund(session: Session, transfer: Transfer, context: Context) -> None:
            move(session, transfer.source, transfer.amount, "refund", context.saga_id)

        return withdraw

    def depositing(self) -> TransactionalStep:
        """The step that gives the money to the target."""

        @self.tx.step(retry=QUICK)
        def deposit(session: Session, transfer: Transfer, context: Context) -> int:
            return move(session, transfer.target, transfer.amount, "deposit", context.saga_id)

        @deposit.compensation
        def take_back(session: Session, transfer: Transfer, context: Context) -> None:
            move(session, transfer.target, -transfer.amount, "take back", context.saga_id)

        return deposit

    def rows(self) -> tuple[list[int], list[tuple[str, str]]]:
        """The balances, and the movements as names of transfers and of their kinds."""
        with Session(self.engine) as session:
            balances = session.scalars(sqlalchemy.select(Account.balance)).all()
            entries = session.execute(sqlalchemy.select(Entry.transfer, Entry.kind)).all()
        return list(balances), [(transfer, kind) for transfer, kind in entries]


class Banks(NamedTuple):
    """Both banks, and the file of the journal.

    Attributes:
        north: A bank on PostgreSQL.
        south: A bank on SQLite.
        journal: The file of the journal.
    """

    north: Bank
    south: Bank
    journal: Path

    @classmethod
    def at(cls, url: str, folder: Path) -> Banks:
        """The banks on a PostgreSQL server and in a folder."""
        north = Bank(url.replace("postgresql://", "postgresql+psycopg://", 1))
        return cls(north, Bank(f"sqlite:///{folder / 'south.db'}?timeout=30"), folder / "transfers.db")

    def sagas(self) -> list[Saga]:
        """A saga for each direction."""
        return [
            Saga("southward", [self.north.withdrawing(), self.south.depositing()], payload=Transfer),
            Saga("northward", [self.south.withdrawing(), self.north.depositing()], payload=Transfer),
        ]

    def mediator(self) -> Mediator:
        """A mediator whose daemon starts the transfers that the banks have ordered."""
        relays = [self.north.tx, self.south.tx]
        return Mediator(*self.sagas(), journal=str(self.journal), relays=relays, max_workers=4)

    def order(self, saga_id: str, saga: str, transfer: Transfer, *, fails: bool = False) -> None:
        """Order a transfer in a transaction of the source's bank. With *fails*, the transaction is rolled back."""
        bank = self.north if saga == "southward" else self.south
        with Session(bank.engine) as session:
            bank.tx.start(session, saga, transfer, saga_id=saga_id)
            if not fails:
                session.commit()


def problems_of(
    ordered: set[str], states: dict[str, str], banks: list[tuple[list[int], list[tuple[str, str]]]]
) -> list[str]:
    """Compare the banks' rows with the promises.

    Args:
        ordered: The transfers whose orders were committed.
        states: The state of each transfer in the journal.
        banks: The `Bank.rows` of each bank.

    Returns:
        The broken promises, in words. Empty if there are none.
    """
    problems = []
    total, first = sum(sum(balances) for balances, _ in banks), len(banks) * ACCOUNTS * FIRST_BALANCE
    if total != first:
        problems.append(f"there were {first} in all, and there are {total}")
    problems += [
        f"{transfer} was {'never driven' if transfer in ordered else 'never ordered'}"
        for transfer in sorted(ordered ^ set(states))
    ]
    moved: dict[str, list[str]] = {transfer: [] for transfer in states}
    for _, entries in banks:
        for transfer, kind in entries:
            moved.setdefault(transfer, []).append(kind)
    right = {"succeeded": [["deposit", "withdraw"]], "failed": [[], ["refund", "withdraw"]]}
    for transfer, found in sorted(moved.items()):
        state = states.get(transfer, "unknown")
        if sorted(found) not in right.get(state, []):
            problems.append(f"{transfer} is in state {state}, and moved money by {sorted(found) or 'nothing'}")
    return problems
