"""`python -m waveunet_cli` is the command `waveunet`."""

from waveunet_cli.cli import main

main()
