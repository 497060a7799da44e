"""The error tree: whose fault it is can be told by type, and reasons stay free of particulars."""

import pytest

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError


def test_both_sides_errors_are_protocol_errors_but_never_each_other():
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_a_remote_error_reads_as_reason_and_detail():
    error = RemoteProtocolError("frame too large", "5 bytes announced")
    assert (error.reason, error.detail) == ("frame too large", "5 bytes announced")
    assert str(error) == "frame too large: 5 bytes announced"


def test_a_remote_error_without_detail_reads_as_its_reason():
    assert str(RemoteProtocolError("bad_magic")) == "bad_magic"


def test_a_remote_error_can_be_caught_by_the_common_name():
    with pytest.raises(ProtocolError, match="frame too large"):
        raise RemoteProtocolError("frame too large")
