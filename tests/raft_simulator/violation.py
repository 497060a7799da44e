"""What the simulator raises when a promise is broken."""


class Violation(Exception):
    """``rule`` is the stable name of the promise, ``detail`` what happened."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
