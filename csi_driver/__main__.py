"""The program `rbd-csi`: its command groups, one file each under cli/, loaded when they are asked for."""

import sys
from importlib import import_module

import click

from csi_driver import VERSION
from csi_driver.cli.lean import import_structlog_alone

COMMANDS = ("audit", "demo", "dev", "node", "rebuild", "repair", "serve", "volume")


class Commands(click.Group):
    """The group of all commands; command NAME is `NAME` in csi_driver.cli.NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"csi_driver.cli.{cmd_name}"), cmd_name)
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def commands() -> None:
    """A CSI driver for Ceph RBD."""


def main() -> None:
    """Run a command. An error is one line on stderr: exit code 2 for misuse and misconfiguration, 1 for failure."""
    import_structlog_alone()
    try:
        sys.exit(commands.main(standalone_mode=False))
    except click.ClickException as error:
        click.echo(f"rbd-csi: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("rbd-csi: ended by the user", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
