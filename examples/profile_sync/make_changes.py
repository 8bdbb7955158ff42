"""Makes ``changes.jsonl``: 300 lines, the same ones every time, eleven of them malformed in ways that happen.

Run once, and again only to change the file: ``python -m examples.profile_sync.make_changes``.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

CHANGES = Path(__file__).with_name("changes.jsonl")

LINES = 300
FIRST = ["Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Hedy", "Katherine", "Leslie", "Niklaus", "Radia"]
LAST = ["Álvarez", "Bauer", "Chen", "Dubois", "Eriksen", "Farouk", "García", "Haddad", "Ito", "Kowalski", "Novák"]

# Malformed lines, by line number.
MALFORMED: dict[int, bytes] = {
    14: b'{"user_id": 14, "email": "hedy@example.com", "plan": "pro", "seats": 2, "display_name": "Hedy',
    41: b"",
    67: b'{"user_id": 67, "plan": "team", "seats": 4, "display_name": "Alan Ito"}',
    98: b'{"user_id": "98", "email": "ada98@example.com", "plan": "free", "seats": 1, "display_name": "Ada Bauer"}',
    123: b'{"user_id": 123, "email": "grace123@example.com", "plan": "pro", "seats": -3, "display_name": "Grace Chen"}',
    150: b'{"user_id": 150, "email": "radia150.example.com", "plan": "pro", "seats": 1, "display_name": "Radia Ito"}',
    177: b'{"user_id": 177, "email": "alan177@example.com", "plan": "gold", "seats": 1, "display_name": "Alan Chen"}',
    204: b"user_id,email,plan,seats,display_name",
    231: b'{"user_id": 231, "email": "leslie231@example.com", "plan": "free", "seats": 1, "display_name": "Les\xff"}',
    258: b'{"user_id": 257, "email": "again@example.com", "plan": "team", "seats": 9, "display_name": "Twice Same"}',
    285: b'["285", "frances285@example.com", "free", 1, "Frances Farouk"]',
}


def make(seed: int = 1987) -> bytes:
    """The whole file."""
    random_source = Random(seed)  # noqa: S311  (a demo, not a secret)
    lines = []
    for number in range(1, LINES + 1):
        first, last = random_source.choice(FIRST), random_source.choice(LAST)
        plan = random_source.choices(["free", "pro", "team"], weights=[3, 5, 2])[0]
        change = {
            "user_id": number,
            "email": f"{first.lower()}{number}@example.com",
            "plan": plan,
            "seats": random_source.randint(2, 40) if plan == "team" else 1,
            "display_name": f"{first} {last}",
        }
        lines.append(MALFORMED.get(number, json.dumps(change, ensure_ascii=False).encode()))
    return b"\n".join(lines) + b"\n"


if __name__ == "__main__":
    CHANGES.write_bytes(make())
