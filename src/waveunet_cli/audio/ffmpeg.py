"""Files that libsndfile cannot read, streamed through an ffmpeg process on the PATH."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.formats import AudioInfo
from waveunet_cli.errors import AudioReadError

_LOSSLESS_CODECS = frozenset({"alac", "ape", "flac", "mlp", "tak", "truehd", "tta", "wavpack"})
_BYTES_PER_SAMPLE = 4  # float32
_MP4_TOLERANCE_SECONDS = 0.5  # encoder delay and edit lists move the end by some frames of the codec


class FfmpegSource:
    """The first audio stream of a file; `why` says in errors why libsndfile does not read it.

    ffmpeg starts with the first read and is killed by close(). A damaged packet or a file cut in its middle
    is an error, except for MP3, whose radio recordings start and end anywhere.
    """

    def __init__(self, path: Path, why: str) -> None:
        self._path = path
        self._decoder: subprocess.Popen[bytes] | None = None
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source; a pipe could fill
        self._position_frames = 0
        self._ended = False
        try:
            self._ffmpeg, ffprobe = (self._find(tool, why) for tool in ("ffmpeg", "ffprobe"))
            self._read_header(ffprobe)
        except BaseException:
            self.close()
            raise

    def _find(self, tool: str, why: str) -> str:
        found = shutil.which(tool)
        if found is None:
            raise AudioReadError(
                f"{self._path}: {why}, and {tool} is not on the PATH; install ffmpeg or convert to WAV or FLAC"
            )
        return found

    @property
    def _url(self) -> str:
        return f"file:{self._path}"  # so that neither a leading dash nor a colon means anything

    def _read_header(self, ffprobe: str) -> None:
        entries = "stream=codec_name,sample_rate,channels,bits_per_raw_sample,sample_fmt,duration"
        command = [ffprobe, "-v", "error", "-select_streams", "a:0", "-of", "json"]
        command += ["-show_entries", f"{entries}:format=format_name", self._url]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        answer = json.loads(done.stdout or b"{}") if done.returncode == 0 else {}
        # A format guessed from the name alone shows as a stream without channels.
        if not answer.get("streams") or not answer["streams"][0].get("channels"):
            raise AudioReadError(
                f"{self._path}: no audio that libsndfile or ffmpeg can read"
                f"{_last_line(done.stderr)}; name an audio file"
            )
        stream: dict[str, Any] = answer["streams"][0]
        container: str = answer["format"]["format_name"]
        codec: str = stream["codec_name"]
        lossless = codec in _LOSSLESS_CODECS or codec.startswith("pcm_")
        self._is_mp3 = codec in ("mp1", "mp2", "mp3")
        self.info = AudioInfo(
            path=self._path,
            sample_rate_hz=int(stream["sample_rate"]),
            channels=int(stream["channels"]),
            frames=None,
            format=container.split(",")[0].upper(),
            subtype=_depth(stream) if lossless else codec.upper(),
            lossy=not lossless,
        )
        # only MP4's header states the duration of the stream; others are estimates
        is_mp4 = "mp4" in container.split(",") and "duration" in stream
        self._stated_seconds = float(stream["duration"]) if is_mp4 else 0.0

    def read(self, frames: int) -> NDArray[np.float32]:
        if self._ended:
            return np.empty((0, self.info.channels), np.float32)
        if self._decoder is None:
            self._decoder = self._start()
        assert self._decoder.stdout is not None
        frame_bytes = self.info.channels * _BYTES_PER_SAMPLE
        data = self._decoder.stdout.read(frames * frame_bytes)
        found_frames, rest_bytes = divmod(len(data), frame_bytes)
        self._position_frames += found_frames
        if found_frames < frames:
            self._ended = True
            self._check_end(rest_bytes)
        block = np.frombuffer(bytearray(data), "<f4", found_frames * self.info.channels)
        return block.reshape(found_frames, self.info.channels).astype(np.float32, copy=False)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [self._ffmpeg, "-v", "error", "-nostdin"]
        command += [] if self._is_mp3 else ["-xerror"]
        command += ["-i", self._url, "-map", "0:a:0", "-f", "f32le", "-c:a", "pcm_f32le"]
        # a stream may change its mind half-way; the header's rate and channels hold
        command += ["-ar", str(self.info.sample_rate_hz), "-ac", str(self.info.channels), "pipe:1"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._messages)

    def _check_end(self, rest_bytes: int) -> None:
        assert self._decoder is not None
        failed = self._decoder.wait() != 0
        found_seconds = self._position_frames / self.info.sample_rate_hz
        self._messages.seek(0)
        reason = _last_line(self._messages.read())
        if failed or rest_bytes:
            raise AudioReadError(
                f"{self._path}: damaged or truncated after {found_seconds:.3f} s: ffmpeg failed{reason};"
                " copy the file again"
            )
        if found_seconds < self._stated_seconds - _MP4_TOLERANCE_SECONDS:
            raise AudioReadError(
                f"{self._path}: truncated: its header says {self._stated_seconds:.3f} s,"
                f" {found_seconds:.3f} s found; copy the file again"
            )

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.kill()
            assert self._decoder.stdout is not None
            self._decoder.stdout.close()
            self._decoder.wait()
        self._messages.close()


def _depth(stream: dict[str, Any]) -> str:
    """PCM_8 … of a lossless stream, from the bits it states or the samples it is decoded to."""
    bits = int(stream.get("bits_per_raw_sample", 0))
    sample_format: str = stream["sample_fmt"]
    if sample_format.startswith(("flt", "dbl")):
        return "FLOAT"
    if bits == 0:
        bits = {"u8": 8, "s16": 16}.get(sample_format.removesuffix("p"), 32)
    return "PCM_S8" if bits <= 8 else f"PCM_{min(32, -(-bits // 8) * 8)}"


def _last_line(messages: bytes) -> str:
    lines = messages.decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""
