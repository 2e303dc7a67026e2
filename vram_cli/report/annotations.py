"""Workflow commands of GitHub Actions, which show findings beside a pull request.

Their syntax and escaping: docs.github.com, "Workflow commands for GitHub Actions", and
`toolkit/packages/core/src/command.ts` of github.com/actions, which writes them.
"""

from __future__ import annotations

from uuid import uuid4

from vram_cli.errors import VramError
from vram_cli.records import CheckResult
from vram_cli.report.answers.check import TITLES, finding_words, remarks
from vram_cli.report.words import spelled


def workflow_commands(check: CheckResult) -> str:
    """Return an error per finding and a notice per remark, one per line."""
    lines = [
        command("error", f"vram check: {TITLES[finding.kind]}", finding_words(check, finding))
        for finding in check.findings
    ]
    lines += [command("notice", "vram check", remark) for remark in remarks(check)]
    return "".join(f"{line}\n" for line in lines)


def commands_stopped() -> tuple[str, str]:
    """Return the lines before and after text in which no line is a command, such as a long name that is folded."""
    token = uuid4().hex
    return f"::stop-commands::{token}\n", f"::{token}::\n"


def failure(error: VramError) -> str:
    """Return the line for a check that could not run."""
    words = error.message + (f"\n{error.hint}" if error.hint else "")
    return command("error", "vram check could not run", words) + "\n"


def command(name: str, title: str, message: str) -> str:
    """Return one workflow command; nothing in title or message can end it or start another."""
    return f"::{name} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return spelled(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
