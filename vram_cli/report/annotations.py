"""Workflow commands of GitHub Actions, by which findings are shown beside a pull request.

The form and what has to be escaped: docs.github.com, "Workflow commands for GitHub Actions", and
`toolkit/packages/core/src/command.ts` of github.com/actions, which writes them.
"""

from __future__ import annotations

from vram_cli.errors import VramError
from vram_cli.records import CheckResult
from vram_cli.report.verdict import TITLES, finding_words, notes


def workflow_commands(verdict: CheckResult) -> str:
    """Return an error for each finding and a notice for each remark, a line each."""
    lines = [
        command("error", f"vram check: {TITLES[finding.kind]}", finding_words(verdict, finding))
        for finding in verdict.findings
    ]
    lines += [command("notice", "vram check", note) for note in notes(verdict)]
    return "".join(f"{line}\n" for line in lines)


def failure(error: VramError) -> str:
    """Return the line for a check that could not be made."""
    words = error.message + (f"\n{error.hint}" if error.hint else "")
    return command("error", "vram check could not be made", words) + "\n"


def command(name: str, title: str, message: str) -> str:
    """Return one workflow command; nothing in title or message can end it or begin another."""
    return f"::{name} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
