"""The built-in tools: echo, add, slow, stream, fail.

A tool is a function from arguments to outputs. One that takes its time is a generator of steps instead, and returns
its outputs at the end:

    yield Pause(0.5)             nothing happens for half a second
    yield Say("1 of 3")          a progress message
    yield Chunk("part")          a piece of streamed output; stream_complete follows the last one

It raises BadArguments (VALIDATION_ERROR) or ToolFailed; any other exception is INTERNAL_ERROR, without its text.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from protocols.tool_call import ERROR_CODES, TOOL_EXECUTION_ERROR

MAX_SLOW_MS = 600_000
MAX_PROGRESS = 1000
MAX_CHUNKS = 100_000
# Of one chunk; a turn of sixteen of them stays far below what one connection may leave unread.
MAX_CHUNK_CHARS = 65_536

Arguments = dict[str, Any]
Outputs = list[Any]


class Pause(NamedTuple):
    seconds: float


class Say(NamedTuple):
    message: str


class Chunk(NamedTuple):
    text: str


Steps = Generator[Pause | Say | Chunk, None, Outputs]


class BadArguments(Exception):
    """Its text goes to the client: it names the argument and never quotes its value."""


class ToolFailed(Exception):
    def __init__(self, message: str, code: str = TOOL_EXECUTION_ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Tool(NamedTuple):
    name: str
    description: str
    properties: dict[str, str]  # argument -> JSON type
    run: Callable[[Arguments], Outputs | Steps]

    def described(self) -> dict[str, Any]:
        """As list_tools_res shows it."""
        properties = {name: {"type": kind} for name, kind in self.properties.items()}
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": {"type": "object", "properties": properties},
        }


def text_output(text: str) -> Outputs:
    return [{"type": "text", "text": text}]


def echo(arguments: Arguments) -> Outputs:
    return text_output(_text(arguments, "text"))


def add(arguments: Arguments) -> Outputs:
    a, b = arguments.get("a"), arguments.get("b")
    if type(a) is not int or type(b) is not int:  # True is no number
        raise BadArguments("a and b are integers")
    return text_output(str(a + b))


def slow(arguments: Arguments) -> Steps:
    total_ms, count = _whole(arguments, "ms", 1000, MAX_SLOW_MS), _whole(arguments, "progress", 0, MAX_PROGRESS)
    text = _text(arguments, "text", "done")

    def steps() -> Steps:
        for number in range(1, count + 1):
            yield Pause(total_ms / 1000 / (count + 1))
            yield Say(f"{number} of {count}")
        yield Pause(total_ms / 1000 / (count + 1))
        return text_output(text)

    return steps()


def stream(arguments: Arguments) -> Steps:
    chunks, interval_ms = _whole(arguments, "chunks", 3, MAX_CHUNKS), _whole(arguments, "interval_ms", 0, MAX_SLOW_MS)
    text = _text(arguments, "text", "chunk")
    if len(text) > MAX_CHUNK_CHARS:
        raise BadArguments(f"text has at most {MAX_CHUNK_CHARS} characters")

    def steps() -> Steps:
        for number in range(chunks):
            yield Chunk(f"{number}:{text}")
            if interval_ms:
                yield Pause(interval_ms / 1000)
        return text_output(str(chunks))

    return steps()


def fail(arguments: Arguments) -> Outputs:
    code = _text(arguments, "code", TOOL_EXECUTION_ERROR)
    if code not in ERROR_CODES:
        raise BadArguments("code is one of the dialect's error codes")
    raise ToolFailed("this tool always fails", code)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("echo", "Gives the text back.", {"text": "string"}, echo),
        Tool("add", "Adds two integers.", {"a": "integer", "b": "integer"}, add),
        Tool("slow", "Takes ms milliseconds, with progress.", {"ms": "integer", "progress": "integer"}, slow),
        Tool("stream", "Streams chunks of text.", {"chunks": "integer", "text": "string"}, stream),
        Tool("fail", "Fails with the given code.", {"code": "string"}, fail),
    )
}


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadArguments(f"{name} is a string")
    return value


def _whole(arguments: Arguments, name: str, default: int, most: int) -> int:
    value = arguments.get(name, default)
    if type(value) is not int or not 0 <= value <= most:
        raise BadArguments(f"{name} is a whole number up to {most}")
    return value
