"""Create a network, a server and a name; destroy all of them if one cannot be created."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Retry, RetryAfterError, Saga, step

QUOTA = 3
"""Servers that the provider allows at a time."""


@dataclass
class Environment:
    """An environment for a branch of the code."""

    branch: str


class ApiError(Exception):
    """An answer of the provider with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


resources: dict[str, str] = {}
"""Everything at the provider, by the tag that its request had."""


def create(tag: str, resource: str) -> str:
    """Create a resource. The provider returns the same one if the tag is known."""
    if resource.startswith("server") and sum(each.startswith("server") for each in resources.values()) >= QUOTA:
        raise ApiError(429)
    return resources.setdefault(tag, resource)


def destroy(tag: str) -> None:
    """Destroy the resource with this tag, if there is one."""
    resources.pop(tag, None)


@step(timeout=60.0)
def create_network(environment: Environment, context: Context) -> str:
    """Create a network."""
    return create(context.idempotency_key, f"network {environment.branch}")


@create_network.compensation
def destroy_network(environment: Environment, context: Context) -> None:
    """Destroy the network, after the server that is in this network."""
    destroy(context.execute_key)


@step(timeout=300.0, retry=Retry(attempts=5))
def create_server(environment: Environment, context: Context) -> str:
    """Create a server; if the quota is used up, wait and try again."""
    try:
        return create(context.idempotency_key, f"server in {context.results['create_network']}")
    except ApiError as error:
        if error.status == 429:
            raise RetryAfterError(60.0, "the quota is used up") from error
        raise


@create_server.compensation
def destroy_server(environment: Environment, context: Context) -> None:
    """Destroy the server."""
    destroy(context.execute_key)


@step
def set_name(environment: Environment, context: Context) -> str:
    """Point a name at the server."""
    return create(context.idempotency_key, f"{environment.branch}.example.org")


@set_name.compensation
def remove_name(environment: Environment, context: Context) -> None:
    """Remove the name."""
    destroy(context.execute_key)


environment = Saga("environment", [create_network, create_server, set_name], payload=Environment)
