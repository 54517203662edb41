"""Run as a program, `python h5_server.py VALID`: reads HDF5 files as h5_reader.py does, each in a fork of itself.

A program that imports h5py takes a quarter of a second to start, a fork a few milliseconds. An order comes as a line
of JSON on standard input, [FILE, OUT, SECONDS]; the answer is one on standard output: [exit code, what the reader said,
bytes of memory it had at most]. The exit code is that of subprocess: -14 (SIGALRM) after so many seconds. VALID is
read at the start, so that what there is to load is loaded.
"""

import json
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from waveunet_cli.importers import h5_reader


def read(path: str, out: str, seconds: float) -> tuple[int, str, int]:
    said = Path(out).with_name("said")
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            h5_reader.main(path, out)
        except SystemExit as error:
            said.write_text(str(error), encoding="utf-8")
        finally:
            os._exit(said.exists())
    _, status, used = os.wait4(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, said.read_text(encoding="utf-8") if code > 0 else "", used.ru_maxrss * 1024


def main(valid: str) -> None:
    with TemporaryDirectory() as folder:
        h5_reader.main(valid, str(Path(folder) / "out.npz"))
    for line in sys.stdin:
        print(json.dumps(read(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
