"""From a finding to something a person can check by hand: at most four operations and one sentence."""

from typing import Any

from records.faults import FaultRecord
from swarmproof.judge import zones
from swarmproof.judge.appends import ABORTED, APPLIED_TWICE, DISAGREEING, PHANTOM
from swarmproof.judge.case import NS_PER_S, Case
from swarmproof.judge.history import (
    APPEND,
    CAS,
    DELETE,
    FAILED_CAS,
    GET,
    NEVER,
    NO_VERSION,
    NONE,
    OP_OF_KIND,
    STATUS_INFO,
    STATUS_NAMES,
    STATUS_OK,
    Value,
)
from swarmproof.judge.lineage import CYCLE, SPLIT_BRAIN, Finding
from swarmproof.judge.linearizability import REFUSED_MATCH

#: Operations shown: the zone algorithm never needs more.
MAX_OPERATIONS = 4
#: Characters of a value in a sentence; of a longer one the end is shown, where lists differ.
MAX_VALUE_CHARS = 40
#: Characters of a value in the list of operations.
MAX_LISTED_CHARS = 200


def counterexample(case: Case, finding: Finding) -> dict[str, Any]:
    """The finding as plain data: ``key``, ``kind``, ``sentence``, ``operations``, and the nearest ``fault``."""
    rows = [row for row in dict.fromkeys(finding.rows) if row != NONE][:MAX_OPERATIONS]
    sentence = finding.detail or sentence_of(case, finding)
    fault = nearest_fault(case, rows)
    rows.sort(key=lambda row: int(case.history.call[row]))
    return {
        "key": case.history.keys[finding.key],
        "kind": finding.kind,
        "sentence": sentence,
        "operations": [operation_of(case, row, fault) for row in rows],
        "fault": None if fault is None else fault_of(case, fault),
    }


def operation_of(case: Case, row: int, fault: FaultRecord | None) -> dict[str, Any]:
    """One operation: who, what, and when, in seconds from the start of the load and from the fault."""
    history = case.history
    kind = int(history.kind[row])
    wrote, before = int(history.wrote[row]), int(history.before[row])
    call, ret = int(history.call[row]), int(history.ret[row])
    answered = ret != NEVER
    result: dict[str, Any] = {
        "id": int(history.id[row]),
        "client": int(history.client[row]),
        "node": node_name(case, row) or None,
        "op": OP_OF_KIND[kind],
        "key": history.keys[int(history.key[row])],
        "status": STATUS_NAMES[int(history.status[row])],
    }
    if wrote != NONE:
        result["value"] = shorten(history.values[wrote], MAX_LISTED_CHARS)
    if before != NONE:
        name = "expect" if kind == CAS else "out"
        result[name] = shorten(history.values[before], MAX_LISTED_CHARS)
    if kind in (CAS, FAILED_CAS) and history.status[row] == STATUS_OK:
        result["ok"] = kind == CAS
    if int(history.version[row]) != NO_VERSION:
        result["version"] = int(history.version[row])
    if history.final[row]:
        result["final"] = True
    result["call_s"] = round(case.seconds(call), 6)
    result["return_s"] = round(case.seconds(ret), 6) if answered else None
    if fault is not None:
        moment = moment_of(fault)
        result["call_after_fault_s"] = round((call - moment) / NS_PER_S, 6)
        result["return_after_fault_s"] = round((ret - moment) / NS_PER_S, 6) if answered else None
    return result


def moment_of(fault: FaultRecord) -> int:
    return fault.effect_ns if fault.effect_ns is not None else fault.requested_ns


def nearest_fault(case: Case, rows: list[int]) -> FaultRecord | None:
    """The fault closest to any of these operations."""
    times = [
        int(column[row]) for row in rows for column in (case.history.call, case.history.ret) if column[row] != NEVER
    ]
    if not times or not case.faults:
        return None
    return min(case.faults, key=lambda fault: min(abs(moment_of(fault) - at) for at in times))


def fault_of(case: Case, fault: FaultRecord) -> dict[str, Any]:
    return {
        "id": fault.id,
        "kind": fault.kind,
        "chosen": fault.chosen or fault.target,
        "at_s": round(case.seconds(moment_of(fault)), 6),
    }


def node_name(case: Case, row: int) -> str:
    server = int(case.history.server[row])
    return f"n{server}" if server != NONE else ""


def shorten(value: Value, limit: int = MAX_VALUE_CHARS) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
    return text if len(text) <= limit else "…" + text[-limit:]


def shown(value: Value) -> str:
    text = shorten(value)
    return "nothing (absent)" if text is None else f'"{text}"'


def sentence_of(case: Case, finding: Finding) -> str:
    """One sentence saying what could not have happened."""
    writer = _Writer(case, finding)
    return writer.sentence()


class _Writer:
    """Turns rows into words."""

    def __init__(self, case: Case, finding: Finding) -> None:
        self.case = case
        self.history = case.history
        self.finding = finding
        self.key = case.history.keys[finding.key]

    def sentence(self) -> str:
        rows = self.finding.rows
        match self.finding.kind:
            case kind if kind == PHANTOM:
                return f"{self.read(rows[0])}, {self.other_request(rows[0]) or 'which nobody wrote to that key'}"
            case kind if kind == ABORTED:
                return (
                    f"{self.read(rows[0])}, but {self.write(rows[1])} had been refused: a rejected write became visible"
                )
            case kind if kind == SPLIT_BRAIN:
                return (
                    f"{self.write(rows[0])} and {self.write(rows[1])} both followed from the same version of key "
                    f"{self.key}: two leaders accepted a write each (split brain)"
                )
            case kind if kind == REFUSED_MATCH:
                return f"{self.read(rows[0])}, the very value that it demanded: it cannot have failed"
            case kind if kind == CYCLE:
                return f"{self.write(rows[0])} followed, through other cas, from its own result: that cannot begin"
            case kind if kind == APPLIED_TWICE:
                return f"{self.write(rows[-1])} occurs twice in what was read ({self.read(rows[0])}): applied twice"
            case kind if kind == DISAGREEING:
                return (
                    f"{self.read(rows[0])} and {self.read(rows[1])}: neither list is the beginning of the other, "
                    "so the nodes disagree on the order of the appends or lost one"
                )
            case zones.ORDER:
                return self.order(rows[0], rows[1])
            case zones.ZONES:
                return self.zones(*rows)
        return (
            f"no order of the operations on key {self.key} explains every reply; the search got as far as "
            f"{self.name(rows[0]) if rows else 'nothing'}"
        )

    # -- the two rules of the zone algorithm ------------------------------------------------------------------

    def order(self, late: int, early: int) -> str:
        """``late`` ended before ``early`` began, yet its version comes after that of ``early``."""
        if self.is_read(early):
            return f"{self.told(late)}; {self.read(early)}, which began later, shows an older state: {self.fate(late)}"
        if self.is_read(late):
            return f"{self.read(late)} before {self.write(early)} had begun: a read from the future"
        return f"{self.told(late)}, which follows from {self.write(early)}, but had ended before that began"

    def zones(self, first_a: int, last_a: int, first_b: int, last_b: int) -> str:
        """Group a was in place from ``first_a`` to ``last_a``, and b began and ended in between (or interleaves)."""
        acknowledged = next((row for row in (first_b, last_b) if self.is_acknowledged_write(row)), NONE)
        witness = last_a
        if acknowledged != NONE and self.returned(acknowledged) < self.called(witness) and self.is_read(witness):
            missing = (
                "does not contain it"
                if self.history.kind[acknowledged] == APPEND
                else f"still shows {self.saw(witness)}"
            )
            return (
                f"{self.told(acknowledged)}; {self.read_at(witness)}, which began later, {missing}: "
                f"{self.fate(acknowledged)}"
            )
        if first_b != NONE and self.is_read(first_b) and self.is_read(witness):
            return f"{self.read(first_b)}; {self.read(witness)}, which began later, shows an older state: a stale read"
        before = "the key was still as at first" if first_a == NONE else f"{self.name(first_a)} had ended"
        return (
            f"{before} before {self.name(last_b)} began, and {self.name(first_b)} had ended before "
            f"{self.name(last_a)} began: the two versions of key {self.key} would each have to come before the other"
        )

    def fate(self, row: int) -> str:
        """Lost, or only overlooked by one reader: did anybody see that write or what followed from it?

        Where there were final reads of the key, they tell: what was seen once may be lost later.
        """
        lineage = self.case.linearizability.lineage
        if self.is_read(row):
            return "a stale read"
        node = int(lineage.wrote[row])
        if node == NONE:
            return "an acknowledged write was lost"
        reads = lineage.reads & (self.history.key == self.history.key[row])
        final = reads & self.history.final
        saw = lineage.before[final if final.any() else reads]
        seen = (lineage.root[saw] == lineage.root[node]) & (lineage.depth[saw] >= lineage.depth[node])
        return "a stale read" if seen.any() else "an acknowledged write was lost"

    # -- words for rows ----------------------------------------------------------------------------------------

    def is_read(self, row: int) -> bool:
        return row != NONE and int(self.history.kind[row]) in (GET, FAILED_CAS)

    def is_acknowledged_write(self, row: int) -> bool:
        return row != NONE and not self.is_read(row) and int(self.history.status[row]) == STATUS_OK

    def called(self, row: int) -> int:
        return int(self.history.call[row])

    def returned(self, row: int) -> int:
        return int(self.history.ret[row])

    def at(self, time_ns: int) -> str:
        return f"{self.case.seconds(time_ns):.3f} s"

    def name(self, row: int) -> str:
        if row == NONE:
            return "the initial state"
        return self.read(row) if self.is_read(row) else self.write(row)

    def read_at(self, row: int) -> str:
        """``the read at 13.000 s``, with the node when known and "final" when it was one."""
        node = node_name(self.case, row)
        kind = "failed cas" if self.history.kind[row] == FAILED_CAS else "read"
        final = "final " if self.history.final[row] else ""
        return f"the {final}{kind}{' at ' + node if node else ''} at {self.at(self.called(row))}"

    def read(self, row: int) -> str:
        return f"{self.read_at(row)} of key {self.key} returned {self.saw(row)}"

    def saw(self, row: int) -> str:
        node = int(self.history.before[row])
        return shown(self.history.values[node]) if node != NONE else "nothing"

    def write(self, row: int) -> str:
        """``the append "7," by client 3 at 12.304 s``."""
        what = self.what(row)
        unanswered = " (never answered)" if self.history.status[row] == STATUS_INFO else ""
        return f"the {what} by client {int(self.history.client[row])} at {self.at(self.called(row))}{unanswered}"

    def told(self, row: int) -> str:
        """``n2 acknowledged append "7," to key k3 at 12.304 s``."""
        if self.is_read(row):
            return self.read(row)
        who = node_name(self.case, row) or "the server"
        return f"{who} acknowledged {self.what(row)} to key {self.key} at {self.at(self.returned(row))}"

    def what(self, row: int) -> str:
        kind = int(self.history.kind[row])
        if kind == DELETE:
            return "delete"
        value = shown(self.history.values[int(self.history.wrote[row])])
        if kind == CAS:
            return f"cas {shown(self.history.values[int(self.history.before[row])])} to {value}"
        return f"{OP_OF_KIND[kind]} {value}"

    def other_request(self, row: int) -> str:
        """A valid value that belongs elsewhere: the reply went to the wrong question."""
        value = self.history.values[int(self.history.before[row])]
        if value is None:
            return ""
        refused = self.case.refused_cas_of(self.key, value)
        if refused is None:
            return self.other_key(value)
        if refused.id == int(self.history.id[row]):
            return "the very value that it was to write itself: it got the reply of another request (replies crossed)"
        return (
            f"which only the cas by client {refused.client} at {self.at(refused.call_ns)} was to write, and that was "
            "told that it had failed: replies crossed, or a refused write became visible"
        )

    def other_key(self, value: str | bytes) -> str:
        """A valid value of another key."""
        for node, other in enumerate(self.history.values):
            key = int(self.history.node_key[node])
            if key == self.finding.key or not other or not isinstance(other, type(value)):
                continue
            if not value.startswith(other):  # type: ignore[arg-type]
                continue
            kinds = self.history.kind[self.history.wrote == node]
            # What a read of an appended key returns begins with the token that was appended first.
            if kinds.size and (other == value or (kinds == APPEND).any()):
                where = self.history.keys[key]
                return f"which nobody wrote to that key; it was written to key {where}: a reply of another key"
        return ""
