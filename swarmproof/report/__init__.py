"""What a person reads after a run: the console's last lines, report.html and junit.xml.

>>> from swarmproof.report import print_report, write_html, write_junit
>>> print_report(run); write_html(run); write_junit(run)

Everything is rendered from the run directory alone, also a half-finished one: what is missing is said in a sentence.
"""

from swarmproof.report.console import print_report, render_report
from swarmproof.report.html import write_html
from swarmproof.report.junit import write_junit

__all__ = ["print_report", "render_report", "write_html", "write_junit"]
