"""Create a user in every system, or in none."""

from __future__ import annotations

from dataclasses import dataclass, field

from fsm_mediator import Context, Retry, Saga, StepRejectedError, step


@dataclass
class NewUser:
    """A user, and the groups to join."""

    login: str
    groups: list[str] = field(default_factory=list)


accounts: dict[str, str] = {}
"""Accounts of the directory: the execution that made each, by login."""

mailboxes: dict[str, str] = {}
"""Addresses, by idempotency key."""

memberships: dict[str, list[str]] = {}
"""Groups, by idempotency key."""

mails: dict[str, str] = {}
"""Mails sent, by idempotency key."""


@step
def create_account(user: NewUser, context: Context) -> None:
    """Create the account. A login that another execution has taken is refused."""
    if accounts.setdefault(user.login, context.saga_id) != context.saga_id:
        raise StepRejectedError(f"the login {user.login!r} is taken")


@create_account.compensation
def delete_account(user: NewUser, context: Context) -> None:
    """Delete the account, if this execution created it."""
    if accounts.get(user.login) == context.saga_id:
        del accounts[user.login]


@step(timeout=30.0)
def create_mailbox(user: NewUser, context: Context) -> str:
    """Create the mailbox, and return its address."""
    mailboxes[context.idempotency_key] = f"{user.login}@example.org"
    return mailboxes[context.idempotency_key]


@create_mailbox.compensation
def delete_mailbox(user: NewUser, context: Context) -> None:
    """Delete the mailbox, if there is one."""
    mailboxes.pop(context.execute_key, None)


@step
def join_groups(user: NewUser, context: Context) -> None:
    """Join all groups with one request."""
    if "admins" in user.groups:
        raise StepRejectedError("only a person can add an administrator")
    memberships[context.idempotency_key] = user.groups


@join_groups.compensation
def leave_groups(user: NewUser, context: Context) -> None:
    """Leave the groups again."""
    memberships.pop(context.execute_key, None)


@step(retry=Retry(attempts=10, wait_initial=1.0))
def welcome(user: NewUser, context: Context) -> None:
    """Send a mail. It comes last because a mail cannot be unsent."""
    mails[context.idempotency_key] = f"to {context.results['create_mailbox']}"


provisioning = Saga("provisioning", [create_account, create_mailbox, join_groups, welcome], payload=NewUser)
