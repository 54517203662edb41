"""The signals that ask a command to end."""

import signal


def interrupts() -> list[signal.Signals]:
    """Ctrl-C; what `kill` and a machine that shuts down send; and that the terminal, or the way to it, was closed.

    The last is left out where it shall be ignored, as nohup asks; Windows has none.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found
