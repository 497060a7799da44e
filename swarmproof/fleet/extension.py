"""The Locust extension: importing it in a locustfile gives every Locust run a run directory.

It works the same in a standalone process, under ``--master``/``--worker``, with ``--processes`` and from the web
UI: the process that commands the test makes the directory (or takes the one of ``--run-dir``), workers learn its
path with the other options and write into it if they are on the same machine; if not, their records travel with
Locust's own reports. Once a second the commanding process writes a line of progress. Here it is attached to Locust;
what it does is `swarmproof.fleet.run_extension`.
"""

import logging
import os
from typing import Any

import gevent
from locust import events

from swarmproof.fleet import busy_poll, thresholds
from swarmproof.fleet.html_report import extend_html_report
from swarmproof.fleet.interrupts import interrupt_in_main_greenlet
from swarmproof.fleet.late_join import hold_spawning_until_init
from swarmproof.fleet.metrics import add_options as add_metrics_options
from swarmproof.fleet.run_extension import RunExtension

logger = logging.getLogger(__name__)

#: Whether a supervisor has told where the records go; then nobody else may.
_given_by_supervisor = False


def _add_options(parser: Any) -> None:
    # Straight to the parser: Locust's web form does not show the options of an argument group.
    parser.add_argument(
        "--run-dir",
        default="",
        metavar="DIR",
        help="run directory to write into; by default runs/<time>-<scenario> is made",
        env_var="SWARMPROOF_RUN_DIR",
        include_in_web_ui=not _given_by_supervisor,
    )
    busy_poll.add_options(parser)
    thresholds.add_options(parser)
    add_metrics_options(parser)


def _on_init(environment: Any, **_: Any) -> None:
    """Attach one extension to this process's environment (Locust fires init once per process)."""
    # The event loop's clock stands still while modules are imported: Locust's run time, armed next, would be
    # shorter by that.
    gevent.get_hub().loop.update_now()
    extension = RunExtension(environment)
    environment.swarmproof = extension
    extension.serve_metrics()
    extension.register_messages()
    environment.events.test_start.add_listener(extension.on_test_start)
    environment.events.test_stopping.add_listener(extension.on_test_stopping)
    environment.events.test_stop.add_listener(extension.on_test_stop)
    environment.events.report_to_master.add_listener(extension.on_report_to_master)
    environment.events.worker_report.add_listener(extension.on_worker_report)
    environment.events.reset_stats.add_listener(extension.on_reset_stats)
    environment.events.quitting.add_listener(extension.on_quitting)
    environment.events.quit.add_listener(extension.on_quit)
    extend_html_report(extension.html_sections)
    if environment.web_ui:
        _extend_web_ui(extension)


def _extend_web_ui(extension: RunExtension) -> None:
    from swarmproof.fleet.live import Live
    from swarmproof.fleet.web import attach, login

    global _given_by_supervisor
    _given_by_supervisor = extension.supervised
    attach(extension.environment, Live(extension))

    def check_login() -> None:  # when all listeners of init have run: a locustfile may bring a login of its own
        if sentence := login.problem(extension.environment.web_ui):
            logger.error("%s", sentence)
            logging.shutdown()
            os._exit(3)  # nothing has begun yet; a gentle end would let the web server start meanwhile, and complain

    gevent.spawn(check_login)


hold_spawning_until_init()
interrupt_in_main_greenlet()
events.init_command_line_parser.add_listener(_add_options)
events.init.add_listener(_on_init)
