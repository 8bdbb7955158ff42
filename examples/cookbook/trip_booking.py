"""Book a trip that is made of smaller sagas: an outbound journey, an inbound journey, and a room."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Retry, Saga, StepRejectedError, step


@dataclass
class Trip:
    """A trip of some nights."""

    to: str
    nights: int


bookings: dict[str, str] = {}
"""Bookings of all companies, by idempotency key."""


@step
def ticket(trip: Trip, context: Context) -> str:
    """Book a ticket. The key names the nested saga, so outbound and inbound are two bookings."""
    bookings[context.idempotency_key] = f"a ticket, {trip.to}"
    return bookings[context.idempotency_key]


@ticket.compensation
def cancel_ticket(trip: Trip, context: Context) -> None:
    """Cancel the ticket."""
    bookings.pop(context.execute_key, None)


@step
def luggage(trip: Trip, context: Context) -> None:
    """Book luggage for the ticket."""
    bookings[context.idempotency_key] = f"luggage with {context.results['ticket']}"


@luggage.compensation
def cancel_luggage(trip: Trip, context: Context) -> None:
    """Cancel the luggage."""
    bookings.pop(context.execute_key, None)


@step
def room(trip: Trip, context: Context) -> None:
    """Book a room."""
    if trip.nights > 30:
        raise StepRejectedError("no room for so long")
    bookings[context.idempotency_key] = f"{trip.nights} nights in {trip.to}"


@room.compensation
def cancel_room(trip: Trip, context: Context) -> None:
    """Cancel the room."""
    bookings.pop(context.execute_key, None)


flight = Saga("outbound", [ticket, luggage], retry=Retry(attempts=5))
trip_booking = Saga("trip_booking", [flight, flight.named("inbound"), room], payload=Trip)
