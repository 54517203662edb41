"""What Ctrl-C, and the signal by which other programs end one, do."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` at an interrupt, until the context ends.

    Only the main thread can say so. In another one, what the program around it has arranged stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)  # None: not set by Python
