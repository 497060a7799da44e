"""How a server writes its replies, learned from one of them: a fast path of `protocols.rpc`.

What a server may answer to a call is not given to the byte: spaces, and the order of members, are its own. But nearly
every server writes all its replies alike. So a first reply is decoded by `decode_reply`; what stands in it around the
id and the result is its *form*, and the next reply, if it is the right one, is that form with the other id and the
other result in it. One comparison of bytes then checks all of it. Bytes that differ prove nothing: they are decoded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from protocols.errors import RemoteProtocolError
from protocols.rpc import Dialect, RpcReply, decode_reply


class ReplyForm(NamedTuple):
    """`text`: a bytes format that takes the id's digits and the values of the result; the id first, or last."""

    text: bytes
    id_first: bool

    def fill(self, digits: bytes, values: tuple[object, ...]) -> bytes:
        """The reply with this id and result."""
        return self.text % ((digits, *values) if self.id_first else (*values, digits))


def learn_form(
    text: bytes, digits: bytes, results: Sequence[bytes], values: tuple[object, ...], dialect: Dialect = "call"
) -> ReplyForm | None:
    """The form of a good reply. None: this one is not good, or does not show how the next one will look.

    `digits`: the id, a text of hex digits. `results`: bytes formats of the ways in which its result may be written;
    each takes `values` (bytes without anything to escape, or integers).
    """
    try:
        reply = decode_reply(text, dialect)
    except RemoteProtocolError:
        return None
    if type(reply) is not RpcReply or reply.id != digits.decode() or reply.error is not None:
        return None
    quoted = b'"' + digits + b'"'
    id_at = text.find(quoted)
    if id_at < 0 or text.count(digits) != 1:
        return None
    for form in results:
        result = form % values
        result_at = text.find(result)
        if text.count(result) == 1 and orjson.loads(result) == reply.result:
            break
    else:
        return None
    id_end, result_end = id_at + len(quoted), result_at + len(result)
    if id_end <= result_at:
        pieces = (text[:id_at], b'"%b"', text[id_end:result_at], form, text[result_end:])
    elif result_end <= id_at:
        pieces = (text[:result_at], form, text[result_end:id_at], b'"%b"', text[id_end:])
    else:
        return None  # the id within the result
    before, first, between, second, after = pieces
    whole = _escaped(before) + first + _escaped(between) + second + _escaped(after)
    return ReplyForm(whole, id_end <= result_at)


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
