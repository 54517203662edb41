"""What Ctrl-C, the signal by which other programs end one, and a terminal that is closed do."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@contextmanager
def interrupts(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` at an interrupt, until the context ends.

    Only the main thread can say so. In another one, what the program around it has arranged stays. So does that a
    closed terminal (SIGHUP) is ignored, as nohup asks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hears = [number for number in INTERRUPTS if number in INTERRUPTS[:2] or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in hears}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)  # None: not set by Python
