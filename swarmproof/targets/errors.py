"""What can go wrong with a target, as sentences for the person at the terminal.

TargetError              anything below; str() is one sentence that says what and how to mend it
+-- TargetNotStarted     it could not be started: missing binary, port in use, it exited at once
+-- TargetNotReady       it runs, but did not answer within its deadline
+-- NoSuchTarget         a name that nothing here has
"""


class TargetError(Exception):
    """A system under test did not do what it must before it can be tested. The text is one sentence."""


class TargetNotStarted(TargetError):
    """The process could not be started, or was gone before it was ready."""


class TargetNotReady(TargetError):
    """The process runs and does not answer."""


class NoSuchTarget(TargetError):
    """A fault or a command names something that does not exist here."""
