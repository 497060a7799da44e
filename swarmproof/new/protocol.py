"""A protocol of one's own, to begin with: nine small files that work at once and are there to be changed.

They are filled-in templates (package data, `templates/protocol`): `$name` and `$Name` stand for the protocol's name.
"""

import keyword
import re
import string
import sys
from importlib import resources
from pathlib import Path

#: As long as names in reports and tables stay readable.
MAX_NAME_CHARS = 40
NAME_RULE = "a name is lower-case letters, digits and _, begins with a letter, and is at most 40 characters long"
#: Modules of these names would hide what every scenario imports.
TAKEN = frozenset(
    {"gevent", "locust", "locustfile", "locustfiles", "plans", "protocols", "records", "servers", "swarmproof"}
    | {"pytest", "users"}
)
SUFFIX = ".template"

#: Template -> what the file is for, in the order in which one reads them.
CONTENTS = {
    "${name}_codec.py": "bytes to replies: the wire format",
    "${name}_user.py": "what a right answer is",
    "locustfile.py": "the scenario: who asks what, how often",
    "${name}_server.py": "a small server, until yours stands there",
    "plan.toml": "starts the server, loads it, kills it once, judges",
    "test_${name}_codec.py": "the codec, split at every byte and fed with garbage",
    "test_${name}_server.py": "the server, over real sockets",
    "test_${name}_plan.py": "the plan and plain Locust, for some seconds",
    "pytest.ini": "keeps the test process free of gevent",
}


class NewFilesError(Exception):
    """Why nothing was written, in one sentence."""


def write_protocol(name: str, folder: Path) -> list[tuple[Path, str]]:
    """Write the files into `folder`; (path, purpose) of each. Errors: NewFilesError, and then nothing was written."""
    check_name(name)
    names = {"name": name, "Name": "".join(part.capitalize() for part in name.split("_"))}
    files: list[tuple[Path, str, str]] = []
    for template, what in CONTENTS.items():
        path = folder / string.Template(template).substitute(names)
        files.append((path, _template(template).substitute(names), what))
    if folder.exists() and not folder.is_dir():
        raise NewFilesError(f"{folder} is a file; give another --directory")
    for path, _, _ in files:
        if path.exists() or path.is_symlink():
            raise NewFilesError(f"{path} exists already and is left as it is; give another name or --directory")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text, _ in files:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise NewFilesError(f"cannot write {error.filename}: {error.strerror}") from error
    return [(path, what) for path, _, what in files]


def check_name(name: str) -> None:
    """Errors: NewFilesError for a name that cannot be a module's beside the others."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > MAX_NAME_CHARS:
        raise NewFilesError(f"{name!r} cannot be the name of a protocol: {NAME_RULE}")
    if keyword.iskeyword(name) or name in TAKEN or name in sys.stdlib_module_names:
        raise NewFilesError(f"{name!r} is taken by Python or by swarmproof; choose another name, such as {name}_wire")


def _template(name: str) -> string.Template:
    path = resources.files(__package__) / "templates" / "protocol" / (name.replace("${name}", "NAME") + SUFFIX)
    return string.Template(path.read_text("utf-8"))
