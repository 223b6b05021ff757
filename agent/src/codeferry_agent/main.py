"""The ``codeferry-agent`` command."""

from __future__ import annotations

import click

from codeferry_agent.drain.cli import drain


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="codeferry-agent", message="%(version)s")
def main() -> None:
    """What of Codeferry runs on an instance."""


main.add_command(drain)

if __name__ == "__main__":
    main()
