"""Locust's task loop, without what plain tasks do not need.

Locust's own loop puts each task into a queue, takes it out again, and asks after nested task sets and the think time
in methods of their own: a third of what a round trip costs when the task is one call. Here tasks that are plain
functions of a user without think time follow each other directly. Everything else is left to Locust: its loop runs
around this one, and whatever a task raises goes to it.
"""

import random
from types import FunctionType
from typing import Any, Final

from locust.user.task import LOCUST_STATE_STOPPING, DefaultTaskSet

from users.pace import Pace

_choose: Final = random.choice


class Tasks(DefaultTaskSet):
    """The root task set of a `ProtocolUser`: behaves as Locust's."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self._wait_s: float | None = None

    def execute_next_task(self) -> None:
        """The next task, and those after it for which nothing has to be waited."""
        user: Any = self.user
        queue, pace = self._task_queue, user.pace
        closed = type(pace) is Pace
        task = queue.popleft()
        while True:
            if type(task) is FunctionType:
                task(user)
            else:
                self.execute_task(task)  # type: ignore[no-untyped-call]
            if not closed or not pace.has_yielded or queue or user._state == LOCUST_STATE_STOPPING:
                return
            if user.wait_time is None:
                return
            seconds = user.wait_time()
            if seconds > 0:
                self._wait_s = seconds
                return
            pace.has_yielded = False  # as `users.pace` has it: waiting for the reply was everybody's turn
            tasks = user.tasks
            if not tasks:
                return
            task = tasks[0] if len(tasks) == 1 else _choose(tasks)

    def wait_time(self) -> Any:
        """Locust asks after each `execute_next_task`, and a wait that was asked for already is not asked for again."""
        seconds, self._wait_s = self._wait_s, None
        return super().wait_time() if seconds is None else seconds  # type: ignore[no-untyped-call]
