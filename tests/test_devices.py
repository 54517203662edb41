"""Where a network may run, and what happens when memory runs out there."""

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from small_models import TINY, VALID, model_of, network_of
from waveunet_cli import devices
from waveunet_cli.devices import CPU, Placement, choose_placement, compute_on
from waveunet_cli.errors import DeviceError
from waveunet_cli.networks.geometry import Window
from waveunet_cli.streaming import engine
from waveunet_cli.streaming.frugal import FrugalNetwork
from waveunet_cli.streaming.windows import WindowedStream

ON_CPU = Placement(CPU, torch.float32, may_leave=False)


# --- placing


@pytest.mark.parametrize("name", ["", "gpu", "meta", "xpu", "cpu:0", "cuda:-1", "cuda:x", "cuda:256", "cuda:99999"])
def test_unknown_devices(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"no such device; choose auto, cpu, cuda|1 CUDA devices found"):
        choose_placement(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3", "mps"])
def test_devices_this_machine_lacks(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="try --device cpu") as caught:
        choose_placement(name)
    assert "\n" not in str(caught.value)


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_placement(precision="float32") == Placement(CPU, torch.float32, may_leave=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_placement() == Placement(torch.device("mps"), torch.float32, may_leave=True)
    assert not choose_placement("mps").may_leave
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert choose_placement() == Placement(torch.device("cuda"), torch.bfloat16, may_leave=True)
    assert str(choose_placement("cuda:1")) == "cuda:1, bfloat16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choose_placement("cuda").dtype == torch.float32
    assert choose_placement("cuda", "float16").dtype == torch.float16


def test_precision_on_the_cpu(monkeypatch):
    assert choose_placement("cpu", "bfloat16").dtype == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert choose_placement("cpu").dtype == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert choose_placement("cpu").dtype == torch.bfloat16
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):  # a torch that does not say
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_placement("cpu").dtype == torch.float32
    with pytest.raises(DeviceError, match="float16: processors are slow"):
        choose_placement("cpu", "float16")
    with pytest.raises(DeviceError, match="float64: no such precision; choose auto, float32"):
        choose_placement("cpu", "float64")


# --- memory


class Limited(nn.Module):
    """A network on a device with room for so many frames of input; none that it was given ran in vain twice."""

    def __init__(self, network, room_frames):
        super().__init__()
        self.network, self.room_frames = network, room_frames
        self.tried, self.ran = [], []

    def forward(self, x):
        size = (x.shape[0], x.shape[-1])
        self.tried.append(size)
        if size[0] * size[1] > self.room_frames:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.ran.append(size)
        return self.network(x)


def frugal(network, room_frames, hop, placement=ON_CPU):
    said = []
    limited = Limited(network, room_frames)
    return (
        FrugalNetwork(limited, network.config.window(hop), placement, lambda event: said.append(event.text)),
        limited,
        said,
    )


@pytest.mark.parametrize("config", VALID[:4], ids=str)
def test_less_memory_gives_the_same_samples(config):
    network = network_of(config)
    window, smallest = config.window(64), config.window(1)
    x = torch.randn(5, config.channels, window.input)
    with torch.no_grad():
        expected = network(x)[..., : window.hop]
    for room in (5 * window.input, 3 * window.input, window.input, window.input - 1, smallest.input):
        run, limited, said = frugal(network, room, 64)
        for _ in range(2):
            torch.testing.assert_close(run(x)[..., : window.hop], expected, atol=1e-5, rtol=0)
        assert len(limited.tried) - len(limited.ran) == len(said)  # every failure is reported, and not repeated
        sizes = [frames for _, frames in limited.tried]
        assert sum(frames > room for frames in sizes) <= len(said)


def test_batches_halve_before_windows():
    network = network_of(TINY)
    window = TINY.window(64)
    run, limited, said = frugal(network, 2 * window.input, 64)
    run(torch.randn(4, 1, window.input))
    assert limited.tried == [(4, window.input), (2, window.input), (2, window.input)]
    assert said == ["cpu: out of memory, going on with smaller batches and windows"]
    run, limited, said = frugal(network, window.input - 1, 64)
    run(torch.randn(2, 1, window.input))
    half = TINY.window(32).input
    assert limited.tried == [(2, window.input), (1, window.input), *[(1, half)] * 4]


def test_a_stream_does_not_notice():
    network = network_of(VALID[1])
    window = VALID[1].window(64)
    x = torch.randn(2, 2, 1000)
    run, _, said = frugal(network, window.input + 1, 64)
    with torch.no_grad():
        outputs = []
        for some in (network, run):
            stream = WindowedStream(some, window, 2, batch=3)
            outputs.append(torch.cat([stream.push(x[..., :700]), stream.push(x[..., 700:]), stream.flush()], -1))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)
    assert said


def test_the_cpu_takes_over_only_where_the_device_was_auto():
    network = network_of(TINY)
    window = TINY.window(64)
    x = torch.randn(2, 1, window.input)
    with torch.no_grad():
        expected = network(x)[..., : window.hop]
    said = []

    class TooSmall(nn.Module):
        def forward(self, x):
            if not any("CPU" in text for text in said):
                raise torch.OutOfMemoryError
            assert not torch.is_autocast_enabled("cpu")  # the CPU goes on in float32
            return network(x)

    leaving = Placement(CPU, torch.bfloat16, may_leave=True)
    run = FrugalNetwork(TooSmall(), window, leaving, lambda event: said.append(event.text))
    torch.testing.assert_close(run(x)[..., : window.hop], expected, atol=1e-5, rtol=0)
    assert said[-1] == "cpu: out of memory even for one window, going on with the CPU"
    torch.testing.assert_close(run(x)[..., : window.hop], expected, atol=1e-5, rtol=0)

    run, _, said = frugal(network, TINY.window(1).input - 1, 64)
    with pytest.raises(torch.OutOfMemoryError):
        run(x)
    assert not any("CPU" in text for text in said)


def test_a_padded_network_has_no_smaller_window():
    config = replace(TINY, padding="same")
    run, limited, _ = frugal(network_of(config), config.window().input - 1, 64)
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.randn(2, 1, config.window().input))
    assert limited.tried == [(2, 16), (1, 16)]


@pytest.mark.parametrize("dtype", devices.PRECISIONS.values(), ids=devices.PRECISIONS.keys())
def test_convolutions_run_in_the_precision_asked_for(dtype):
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
            return torch.nn.functional.conv1d(x, torch.ones(1, 1, 3))[:, None]

    run = FrugalNetwork(Spy(), TINY.window(4), Placement(CPU, dtype, may_leave=False), lambda event: None)
    y = run(torch.full((1, 1, 8), 1.001))
    assert y.dtype == torch.float32
    assert seen == [(dtype != torch.float32, False)]
    assert bool(((y - 3.003).abs() < 1e-6).all()) == (dtype == torch.float32)


@pytest.mark.parametrize(("size", "batches"), [(4, [4]), (5, [2, 3]), (16, [4] * 4)])
def test_a_cpu_computes_a_few_signals_at_once(size, batches):
    """All of 32 channels in one batch would take as many times the memory of a pair."""
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x[:, None]

    x = torch.arange(size)[:, None, None] * torch.ones(1, 8)
    y = FrugalNetwork(Spy(), TINY.window(4), ON_CPU, lambda event: None)(x)
    assert seen == batches
    assert torch.equal(y[:, 0], x)


class OnlyOnTheCPU(nn.Module):
    """Has no memory on any other device."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        if self.weight.device != CPU:
            raise torch.OutOfMemoryError
        return (x * self.weight)[:, None]


def test_the_cpu_gets_the_weights_and_the_model_stays_where_it_was(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not know this device
    model = OnlyOnTheCPU()
    window = Window(context=0, output=8, hop=8)
    leaving = Placement(torch.device("meta"), torch.float32, may_leave=True)
    run = FrugalNetwork(model, window, leaving, lambda event: None)
    assert model.weight.device == CPU  # others may be using it
    torch.testing.assert_close(run(torch.ones(1, 1, 8)), torch.full((1, 1, 1, 8), 2.0))


def test_separators_that_share_a_model_do_not_move_it():
    model = model_of(TINY)
    elsewhere = Placement(torch.device("meta"), torch.float32, may_leave=False)
    engine.new_engine(model, elsewhere, None, print)
    assert {parameter.device for parameter in model.network.parameters()} == {CPU}


def test_a_carried_network_is_placed_on_the_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "placed", lambda network, device: asked.append(device) or network)
    engine.new_engine(model_of(TINY), ON_CPU, None, print)  # its weights may have been left on another device
    assert asked == [CPU]


@pytest.mark.gpu
def test_on_a_gpu():
    network = network_of(VALID[1])
    window = VALID[1].window(64)
    x = torch.randn(2, 2, window.input)
    with torch.no_grad():
        expected = network(x)
    run = FrugalNetwork(network, window, choose_placement("cuda", "float32"), lambda event: None)
    torch.testing.assert_close(run(x), expected, atol=2e-3, rtol=0)


# --- the thread that computes


def ends(function) -> bool:
    """Whether it returns, in a thread that may be left behind if it does not."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def test_the_number_of_threads_is_the_callers():
    usual = torch.get_num_threads()
    assert compute_on(CPU, torch.get_num_threads) == usual
    try:
        torch.set_num_threads(usual + 1)
        assert compute_on(CPU, torch.get_num_threads) == usual + 1
    finally:
        torch.set_num_threads(usual)


AT_THE_END = """
import atexit, threading
from waveunet_cli.devices import CPU, compute_on

def refused():
    threading.main_thread().join()
    try:
        compute_on(CPU, int)
    except RuntimeError:
        print("6")

def compute():
    daemon.join()
    print(compute_on(CPU, int, "7"))

compute_on(CPU, int)
atexit.register(lambda: print(compute_on(CPU, int, "8")))
daemon = threading.Thread(target=refused, daemon=True)
daemon.start()
threading.Thread(target=compute).start()
"""


def test_computing_while_the_program_ends():
    """A daemon's thread does not compute: it is ended with the program, and within torch that would abort it."""
    run = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=120, check=False)
    assert (run.stdout, run.stderr) == ("6\n7\n8\n", "")


def test_what_computes_may_compute_more():
    assert ends(lambda: compute_on(CPU, compute_on, CPU, int))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_thread_of_its_own():
    here = compute_on(CPU, threading.get_native_id)
    process = os.fork()
    if not process:
        os._exit(0 if ends(lambda: compute_on(CPU, int)) else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert compute_on(CPU, threading.get_native_id) == here
