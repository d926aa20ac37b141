"""The `blip` command.

    blip --help
    blip stage pretrain --set pretrain.steps=200

Commands import what they need when they run, so that `--help` answers at once. Exit codes: 0 done, 1 failed with a
clear message, 2 bad arguments, 75 preempted with a checkpoint saved.
"""


import typer

app = typer.Typer(
    name="blip",
    help="Noisy image-text data in, vision-language models one can trust out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
