"""The device's admin port: what it received, how it behaves, and a way to change that while it runs.

    GET    /mode       {"mode", "script", "delay_s", "ack"}
    POST   /mode       a script as text ("DISCONNECT,SUCCESS"), or {"script": ...} or {"mode": ...}, with "delay_s"
    GET    /packets    {"received", "kept", "packets": [...]}, oldest first; ?device_id=X for one device
    DELETE /packets    forget them
    GET    /counts     {"received", "disconnected", "connections", "decode_errors": {reason: n}}

Always on the loopback interface, whatever the device itself listens on: it has no authentication.
"""

from typing import cast
from urllib.parse import parse_qs

import orjson

from servers.f00d.device import Device
from servers.f00d.script import MAX_STEP_S, BadScript, Script, parse_script
from servers.metrics import METHOD_NOT_ALLOWED, NOT_FOUND, Answer, SideDoor

ADMIN_HOST = "127.0.0.1"


def admin_door(port: int, device: Device) -> SideDoor:
    """Logs `admin_listening address=HOST:PORT`. Raises CannotServe."""

    def respond(method: str, path: str, query: str, body: bytes) -> Answer:
        route = _ROUTES.get(path)
        if route is None:
            return NOT_FOUND
        if method not in route:
            return METHOD_NOT_ALLOWED
        if path == "/mode":
            return _switch(device, body) if method == "POST" else _json(_mode(device))
        if path == "/counts":
            return _json(_counts(device))
        if method == "DELETE":
            device.packets.clear()
        return _json(_packets(device, parse_qs(query).get("device_id", [""])[0]))

    return SideDoor("admin_listening", ADMIN_HOST, port, respond)


_ROUTES = {
    "/mode": ("GET", "POST"),
    "/packets": ("GET", "DELETE"),
    "/counts": ("GET",),
}


def _mode(device: Device) -> dict[str, object]:
    return {
        "mode": device.script.current.mode,
        "script": device.script.remaining(),
        "delay_s": device.delay_s,
        "ack": "framed" if device.framed_ack else "raw",
    }


def _counts(device: Device) -> dict[str, object]:
    return {
        "received": device.received,
        "disconnected": device.disconnected,
        "connections": len(device.group.connections),
        "decode_errors": dict(device.metrics.decode_errors),
    }


def _packets(device: Device, device_id: str) -> dict[str, object]:
    packets = [
        {"received_at": kept.received_at, "peer": kept.peer, "mode": kept.mode, **kept.packet._asdict()}
        for kept in device.packets
        if not device_id or kept.packet.device_id == device_id
    ]
    return {"received": device.received, "kept": len(packets), "packets": packets}


def _switch(device: Device, body: bytes) -> Answer:
    try:
        script, delay_s = _read_switch(body)
    except BadScript as error:
        return "400 Bad Request", "text/plain; charset=utf-8", f"{error}\n".encode()
    device.switch(script, delay_s)
    return _json(_mode(device))


def _read_switch(body: bytes) -> tuple[Script, float | None]:
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return Script(parse_script(text)), None
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadScript("the body is neither a script nor a JSON object") from None
    script = fields.get("script", fields.get("mode"))
    if isinstance(script, list) and all(isinstance(step, str) for step in script):
        script = ",".join(cast(list[str], script))
    if not isinstance(script, str):
        raise BadScript('the object needs "mode" or "script", such as {"mode": "TIMEOUT"}')
    delay_s = fields.get("delay_s")
    if delay_s is not None and (
        isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not 0 <= delay_s <= MAX_STEP_S
    ):
        raise BadScript(f"delay_s is a number of seconds from 0 to {MAX_STEP_S:g}")
    return Script(parse_script(script)), delay_s


def _json(value: object) -> Answer:
    return "200 OK", "application/json", orjson.dumps(value)
