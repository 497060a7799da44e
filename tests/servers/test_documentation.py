"""docs/servers.md shows a whole server; it must be one."""

import re
import sys
from pathlib import Path

from tests.processes import ROOT, Process
from tests.servers.clients import RawClient


def test_example_of_the_documentation_serves(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "servers.md").read_text()
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    program = tmp_path / "lines.py"
    program.write_text(match[1].replace("7000", "0"))
    process = Process([sys.executable, str(program)])
    try:
        line = process.read_line()
        assert line.startswith("lines listening on 127.0.0.1:")
        with RawClient(("127.0.0.1", int(line.rsplit(":", 1)[1]))) as client:
            client.send(b"hello\n")
            assert client.receive() == b"hello\n"
        assert process.stop() == 0
    finally:
        process.close()
