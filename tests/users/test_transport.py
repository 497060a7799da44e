"""Dialling: whatever is wrong with the address is one of our own failures."""

import pytest

from users.failures import ConnectFailed
from users.transport import Endpoint, dial


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_can_be_no_name_is_one_that_cannot_be_resolved(host: str, tls: bool) -> None:
    with pytest.raises(ConnectFailed, match="the host's name cannot be resolved"):
        dial(Endpoint(host, 9000, tls=tls), 5.0)
