"""A folder with a small model, and `waveunet separate` run in it."""

from dataclasses import replace

import pytest

from small_models import TINY, network_of
from waveunet_cli.networks.checkpoint import save_checkpoint


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    config = replace(TINY, output="difference")
    save_checkpoint(tmp_path / "tiny.safetensors", config, network_of(config).state_dict())
    return tmp_path


@pytest.fixture
def run(waveunet, here):
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", *arguments)
