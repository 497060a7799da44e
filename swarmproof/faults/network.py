"""Faults of the network: partitions, toxics on links, mass disconnects. All of them act through the link proxy.

Each node sends on the connection that it dialled, so the link `n1>n2` carries what n1 says to n2 and nothing else: a
one-way partition is one link cut. A cut link swallows bytes and stays open, as when packets are lost.
"""

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from swarmproof.faults.fault import CLIENT_LINKS, PEER_LINKS, Fault, NoEffect, Strike, default_links, names_of
from swarmproof.faults.proxy.toxics import SILENT_TOXICS, Toxic, hits_of, needs_frames, parse_toxic
from swarmproof.targets.base import Member
from swarmproof.targets.errors import TargetError
from swarmproof.targets.links import CLIENTS, Counters, link_name

CUT = ("drop",)
SILENT_FOR_S = 0.3
# A share of what passes, or an amount of bytes, takes its time to be met.
RARE_WITHIN_S = 10.0


class _LinkFault(Fault):
    """Shared: toxics on links from `begin` to `end`, and counters as evidence."""

    heal_word = "for"
    needs_links = PEER_LINKS
    effect_within_s = 3.0  # a heartbeat passes every 50 ms; a loaded machine takes its time

    def end(self, strike: Strike) -> str:
        if strike.board is not None:
            strike.board.withdraw(strike.owner)
        return ""

    def heal(self, victim: Member) -> None:
        """Nothing is left to do for one victim."""

    def healed(self, members: Sequence[Member]) -> str:
        return f"the links of {names_of(members)} are as before"

    def _apply(self, strike: Strike, names: Sequence[str], toxics: Sequence[str]) -> None:
        board = strike.links_board()
        missing = [name for name in names if name not in board.names]
        if missing or not names:
            raise NoEffect(
                f"there is no link {missing[0] if missing else ''} to act on; start the target with links "
                "(`links = true` in [[target]], or `swarmproof up --links`)"
            )
        strike.memory["names"] = list(names)
        # Before the counters are read: what is carried between the reading and the cut would count against it.
        board.apply(strike.owner, dict.fromkeys(names, toxics))
        strike.memory["before"] = board.counters()


class _Cut(_LinkFault):
    """Shared by the partitions: links that carry nothing. `_severed` says which."""

    kinds: ClassVar[Sequence[str]] = ("raft",)

    def begin(self, strike: Strike) -> None:
        self._apply(strike, self._severed(strike), CUT)

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        names: list[str] = strike.memory["names"]
        before: Mapping[str, Counters] = strike.memory["before"]
        now = strike.links_board().counters()
        carried = sum(_carried(now[name]) - _carried(before[name]) for name in names)
        swallowed = sum(_swallowed(now[name]) - _swallowed(before[name]) for name in names)
        tried = sum(now[name]["accepted"] - before[name]["accepted"] for name in names)
        if carried or not (swallowed or tried):
            return [None]
        return [f"{_count(names)} carry nothing ({strike.memory['words']}): {swallowed} bytes swallowed"]

    def _severed(self, strike: Strike) -> list[str]:
        raise NotImplementedError


class Partition(_Cut):
    name = "partition"
    summary = "the victims and the other nodes do not hear each other; halves and bridge split the cluster"
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node", "halves", "bridge")

    def _severed(self, strike: Strike) -> list[str]:
        members, everybody = _sides(strike)
        if strike.choice.why.startswith("bridge"):
            (bridge,) = members
            others = [name for name in everybody if name != bridge]
            strike.rng.shuffle(others)
            left, right = others[: len(others) // 2], others[len(others) // 2 :]
            strike.memory["words"] = f"{', '.join(left)} | {', '.join(right)}; {bridge} hears both"
        else:
            left, right = members, [name for name in everybody if name not in members]
            strike.memory["words"] = f"{', '.join(left)} | {', '.join(right)}"
        return [link_name(a, b) for a in left for b in right] + [link_name(b, a) for a in left for b in right]


class PartitionOut(_Cut):
    name = "partition-out"
    summary = "one-way: nobody hears the victim, which still hears the others"
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node")

    def _severed(self, strike: Strike) -> list[str]:
        (victim,), everybody = _sides(strike)
        strike.memory["words"] = f"from {victim}"
        return [link_name(victim, other) for other in everybody if other != victim]


class PartitionIn(_Cut):
    name = "partition-in"
    summary = "one-way: the victim hears nobody, the others still hear it"
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node")

    def _severed(self, strike: Strike) -> list[str]:
        (victim,), everybody = _sides(strike)
        strike.memory["words"] = f"to {victim}"
        return [link_name(other, victim) for other in everybody if other != victim]


class Toxics(_LinkFault):
    name = "link"
    summary = "toxics on the links of the victims: latency, jitter, bandwidth, drop, stall, reset, corrupt ..."
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node", "all")
    heals_from_strike = True  # its effect may take a while to be seen; it does not last longer for that

    def begin(self, strike: Strike) -> None:
        board = strike.links_board()
        where = links_of(strike)
        names = [
            name
            for name in sorted(board.names)
            for member in strike.choice.members
            if _belongs(name, member.name, where)
        ]
        default = "up" if where == PEER_LINKS else "down"
        texts = [_with_direction(text, default) for text in strike.toxics]
        strike.memory["asked"] = _acting(dict(zip(strike.toxics, map(parse_toxic, texts), strict=True)))
        unframed = [name for name in names if name not in board.framed]
        if unframed and needs_frames(toxic for text in texts for toxic in parse_toxic(text)):
            raise NoEffect(f"{', '.join(strike.toxics)}: the link {unframed[0]} does not carry length-prefixed frames")
        self._apply(strike, sorted(set(names)), texts)

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        """One text for each toxic that has really done something since the strike."""
        names: list[str] = strike.memory["names"]
        before: Mapping[str, Counters] = strike.memory["before"]
        asked: Mapping[str, Sequence[Toxic]] = strike.memory["asked"]
        now = strike.links_board().counters()
        seen: dict[str, str | None] = {}
        for text, toxics in asked.items():
            hits = {name: sum(_hits(toxic, before[name], now[name]) for toxic in toxics) for name in names}
            touched = sum(count > 0 for count in hits.values())
            times = "once" if sum(hits.values()) == 1 else f"{sum(hits.values())} times"
            seen[text] = f"{text} acted {times} on {touched} of {_count(names)}" if touched else None
        silent = [toxic for toxics in asked.values() for toxic in toxics if _is_silent(toxic)]
        if silent:
            words = self._silence(strike, now, sorted({toxic.direction for toxic in silent}))
            for text, toxics in asked.items():
                if any(map(_is_silent, toxics)):
                    seen[text] = seen[text] and words and f"{text}: {words}"
        strike.memory["unseen"] = [text for text, said in seen.items() if said is None]
        return list(seen.values())

    def end(self, strike: Strike) -> str:
        """How often they acted in all: the effect is seen as soon as there is any."""
        asked: Mapping[str, Sequence[Toxic]] = strike.memory.get("asked", {})
        try:
            now = strike.links_board().counters() if "before" in strike.memory else {}
        except (NoEffect, TargetError):
            now = {}
        super().end(strike)
        before: Mapping[str, Counters] = strike.memory.get("before", {})
        counted = {
            text: sum(_hits(toxic, before[name], now[name]) for toxic in toxics for name in strike.memory["names"])
            for text, toxics in asked.items()
            if now and not any(map(_is_silent, toxics))
        }
        told = ", ".join(f"{text} {count} times" for text, count in counted.items() if count > 1)
        return f"; in all {told}" if told else ""

    def unseen(self, strike: Strike, seen: Sequence[str | None]) -> str:
        return f"{names_of(strike.choice.members)} ({', '.join(strike.memory.get('unseen', strike.toxics))})"

    def window_s(self, strike: Strike) -> float:
        toxics = [toxic for text in strike.toxics for toxic in parse_toxic(text)]
        later_s = max((toxic.delay_s for toxic in toxics if toxic.kind == "reset"), default=0.0)
        rare = any(toxic.share < 1 or toxic.kind == "limit_data" for toxic in toxics)
        return max((RARE_WITHIN_S if rare else self.effect_within_s) + later_s, strike.heal_after_s or 0.0)

    def silences_in(self, strike: Strike) -> bool:
        toxics = [toxic for text in strike.toxics for toxic in parse_toxic(text)]
        return links_of(strike) == PEER_LINKS and any(map(_is_silent, toxics))

    @staticmethod
    def _silence(strike: Strike, now: Mapping[str, Counters], directions: Sequence[str]) -> str | None:
        """Nothing is carried for a while: on links between nodes a heartbeat passes every 50 ms."""
        names: list[str] = strike.memory["names"]
        carried = [now[name][f"{direction}_bytes"] for name in names for direction in directions]
        if strike.memory.get("carried") != carried:
            strike.memory["carried"], strike.memory["silent_since"] = carried, time.monotonic()
            return None
        if time.monotonic() - strike.memory["silent_since"] < SILENT_FOR_S:
            return None
        return f"{_count(names)} carried nothing for {SILENT_FOR_S:g} s"


class Disconnect(_LinkFault):
    name = "disconnect"
    summary = "every client connection of the victims is reset at the same moment; they may connect again at once"
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node", "all")
    needs_links = CLIENT_LINKS
    silences = False
    is_instant = True

    def begin(self, strike: Strike) -> None:
        board = strike.links_board()
        names = [link_name(CLIENTS, member.name) for member in strike.choice.members]
        missing = [name for name in names if name not in board.names]
        if missing:
            raise NoEffect(f"there is no link {missing[0]}; start the target with `links = true` in [[target]]")
        strike.memory["reset"] = board.reset_connections(names)

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        count = strike.memory["reset"]
        return [f"{count} connections were reset" if count else None]

    def end(self, strike: Strike) -> str:
        return ""

    def healed(self, members: Sequence[Member]) -> str:
        return ""


def links_of(strike: Strike) -> str:
    """Peers or clients: as asked for, or what the victims have."""
    cluster = strike.choice.cluster
    return strike.links or (default_links(cluster.kind, len(cluster.members)) if cluster is not None else CLIENT_LINKS)


def _sides(strike: Strike) -> tuple[list[str], list[str]]:
    cluster = strike.choice.cluster
    if cluster is None:
        raise NoEffect("a partition needs a cluster")
    return [member.name for member in strike.choice.members], [member.name for member in cluster.members]


def _belongs(link: str, member: str, where: str) -> bool:
    source, _, destination = link.partition(">")
    if where == CLIENT_LINKS:
        return source == CLIENTS and destination == member
    return source != CLIENTS and member in (source, destination)


def _with_direction(text: str, default: str) -> str:
    """On a peer link messages go `up` only, so that is what a latency there means."""
    toxics = parse_toxic(text, "up" if default == "up" else "down")
    return text if len(toxics) > 1 or ":" in text.partition("=")[0] else f"{toxics[0].direction}:{text}"


def _acting(asked: Mapping[str, list[Toxic]]) -> Mapping[str, Sequence[Toxic]]:
    """Without those that cannot do anything beside the others: nothing is delayed where everything is lost."""
    toxics = [toxic for toxics in asked.values() for toxic in toxics]
    silenced = {toxic.direction for toxic in toxics if _is_silent(toxic)}
    # A reset ends the connection, so it counts once for both directions.
    asked = {text: parts[:1] if _ends_connections(parts[0]) else parts for text, parts in asked.items()}
    at_once = [text for text, parts in asked.items() if any(map(_resets_at_once, parts))]
    if at_once:
        return {text: asked[text] for text in at_once}
    acting = {
        text: [part for part in parts if part.kind == "reset" or _is_silent(part) or part.direction not in silenced]
        for text, parts in asked.items()
    }
    return {text: parts for text, parts in acting.items() if parts}


def _is_silent(toxic: Toxic) -> bool:
    return toxic.kind in SILENT_TOXICS and toxic.share >= 1


def _ends_connections(toxic: Toxic) -> bool:
    return toxic.kind == "reset" and not toxic.mid_reply


def _resets_at_once(toxic: Toxic) -> bool:
    return _ends_connections(toxic) and not toxic.delay_s


def _hits(toxic: Toxic, before: Counters, now: Counters) -> int:
    """How often it has acted since; of a stall, in how many connections something is held back at the moment."""
    name = hits_of(toxic.direction, toxic.kind)
    return now.get(name, 0) - (before.get(name, 0) if toxic.kind != "stall" else 0)


def _carried(counters: Counters) -> int:
    return counters["up_bytes"] + counters["down_bytes"]


def _swallowed(counters: Counters) -> int:
    return counters["up_swallowed_bytes"] + counters["down_swallowed_bytes"]


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} link{'s' if len(names) != 1 else ''}"
