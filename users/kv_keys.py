"""The keys of a run: few, shared by all users, and in two families that are judged by different rules.

    <run>/a7.2    append family: only appends of unique tokens, and reads
    <run>/r7      register family: put, cas, delete, and reads

A key belongs to one family for good (a history that mixes them is far harder to judge). Keys start with a mark of
the run, so that a second run on the same cluster does not find values that its own history cannot explain. An
append key that has grown long is left for the next *generation* (`a7.3`), so that reads stay cheap.
"""

import hashlib
import math
import random
import secrets
from typing import Any, Final

from protocols.kv import Value
from users import options

# About 240 tokens: long enough to show a lost or doubled one between many others, short enough to read often.
MAX_APPENDED_BYTES: Final = 4_096


def number_of_keys(parsed_options: Any) -> int:
    """How many keys all users share: `--keys`, or `--keys-per-client` for each user that was asked for."""
    keys: int = options.value(parsed_options, "keys")
    for_each: float = options.value(parsed_options, "keys_per_client")
    # Workers are told by the master's extension. A load shape names no number of users.
    users = getattr(parsed_options, "run_users", None) or getattr(parsed_options, "num_users", None)
    return max(2, math.ceil(for_each * users)) if for_each and users else keys


class Keyspace:
    """Keys and what this process last saw in them. Shared by the users of a process."""

    _current: "tuple[str, int, Keyspace] | None" = None

    def __init__(self, prefix: str, count: int) -> None:
        self.prefix = prefix
        self._appends = max(1, count // 2)
        self._registers = max(1, count - count // 2)
        self._generations = [0] * self._appends
        self._seen: dict[str, Value | None] = {}

    @classmethod
    def of_run(cls, environment: Any) -> "Keyspace":
        """The keyspace of the run that this process takes part in: the same prefix in all its workers."""
        parsed = environment.parsed_options
        count = number_of_keys(parsed)
        run = f"{getattr(parsed, 'run_dir', '')}{getattr(parsed, 'run_token', '')}"
        if cls._current is None or cls._current[:2] != (run, count):
            digest = hashlib.blake2s(run.encode(), digest_size=4).hexdigest() if run else secrets.token_hex(4)
            cls._current = (run, count, cls(digest, count))
        return cls._current[2]

    def append_key(self) -> str:
        """A random key of the append family, in its current generation."""
        number = random.randrange(self._appends)
        return f"{self.prefix}/a{number}.{self._generations[number]}"

    def register_key(self) -> str:
        """A random key of the register family."""
        return f"{self.prefix}/r{random.randrange(self._registers)}"

    def appended(self, key: str, value: Value | None) -> None:
        """A read of an append key. When it has grown long, its next generation begins."""
        if value is None or len(value) < MAX_APPENDED_BYTES:
            return
        self.retire(key)

    def retire(self, key: str) -> None:
        """No more appends to this key from here."""
        name, _, generation = key.rpartition(".")
        number = int(name.rpartition("a")[2])
        if self._generations[number] == int(generation):
            self._generations[number] += 1

    def saw(self, key: str, value: Value | None) -> None:
        """What a register held (None: absent), to be expected by the next cas."""
        self._seen[key] = value

    def last_seen(self, key: str) -> Value | None:
        return self._seen.get(key)
