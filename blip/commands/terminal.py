"""Standard output for tables and colours."""

from rich.console import Console

from blip.commands.output import leave_off


class Terminal(Console):
    """A console whose reader may close the pipe early, which is no failure of the command."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and go on."""
        self.quiet = True
        leave_off()
