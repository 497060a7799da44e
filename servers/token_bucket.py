"""Token buckets: `capacity` requests at once, `per_s` of them back each second. No clock of its own."""

from collections import OrderedDict


class TokenBucket:
    """Full at first.

    >>> bucket = TokenBucket(capacity=2, per_s=1, now_s=0)
    >>> bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(1)
    (True, True, False, True)
    """

    __slots__ = ("_at_s", "_tokens", "capacity", "per_s")

    def __init__(self, capacity: float, per_s: float, now_s: float) -> None:
        self.capacity = capacity
        self.per_s = per_s
        self._tokens = float(capacity)
        self._at_s = now_s

    def has(self, now_s: float) -> bool:
        """Whether a request would be let through now."""
        self._tokens = min(self.capacity, self._tokens + max(0.0, now_s - self._at_s) * self.per_s)
        self._at_s = max(self._at_s, now_s)
        return self._tokens >= 1

    def take(self, now_s: float) -> bool:
        """Let one request through, or not."""
        if not self.has(now_s):
            return False
        self._tokens -= 1
        return True


def take_all(buckets: list[TokenBucket], now_s: float) -> bool:
    """One token of each, or none of any: a client held back by one limit does not use up the others."""
    if not all(bucket.has(now_s) for bucket in buckets):
        return False
    for bucket in buckets:
        bucket.take(now_s)
    return True


class Buckets:
    """A bucket for each key (an address, a session), at most `most` of them: the one least used lately is forgotten.

    Forgetting fills a bucket again, so an attacker needs more than `most` addresses to gain anything by it.
    """

    def __init__(self, capacity: float, per_s: float, most: int) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def get(self, key: str, now_s: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._capacity, self._per_s, now_s)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket
