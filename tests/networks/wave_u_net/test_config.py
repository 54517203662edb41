"""The architecture's dataclass: what is refused, the variants, and that every field matters."""

from dataclasses import fields, replace

import numpy as np
import pytest

from small_models import TINY
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Model, build_network
from waveunet_cli.networks.wave_u_net.config import (
    FOUR_STEMS,
    M1,
    M2,
    M3,
    M4,
    M5,
    M5_HIGHSR,
    M6,
    M7,
    VARIANTS,
    WaveUNetConfig,
)
from waveunet_cli.separator import Separator


@pytest.mark.parametrize(
    "change",
    [
        {"sources": ("vocals",)},
        {"sources": ("a", "a")},
        {"sources": ()},
        {"residual": "drums"},
        {"padding": "reflect"},
        {"upsampling": "cubic"},
        {"output": "mask"},
        {"activation": "relu"},
        {"channels": 3},
        {"channels": 0},
        {"sample_rate": 0},
        {"levels": 0},
        {"filters": 0},
        {"window_frames": 0},
        {"down_taps": 4},
        {"up_taps": -1},
        {"levels": 1.5},
        {"filters": "24"},
        {"sample_rate": True},
    ],
    ids=str,
)
def test_what_cannot_exist_is_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change)).removesuffix("_taps").split("_")[0]) as caught:
        replace(M4, **change)
    assert "\n" not in str(caught.value)


def test_variants_are_the_papers_table():
    assert list(VARIANTS) == ["M1", "M2", "M3", "M4", "M5", "M5-HighSR", "M6", "M7"]
    assert {(c.levels, c.down_taps, c.up_taps) for c in VARIANTS.values()} == {(12, 15, 5)}
    assert [c.additive for c in VARIANTS.values()] == [False] + [True] * 7
    assert [c.padding for c in (M1, M2, M3, M4, M5, M6, M7)] == ["same"] * 2 + ["valid"] * 5
    assert [c.channels for c in (M1, M2, M3, M4, M5, M6, M7)] == [1, 1, 1, 2, 2, 2, 1]
    assert [c.sample_rate for c in (M1, M4, M5_HIGHSR, M7)] == [22_050, 22_050, 44_100, 8_192]
    assert (M6.sources, M6.residual) == (FOUR_STEMS, "other")
    assert (M4.sources, M4.residual) == (("accompaniment", "vocals"), "accompaniment")


def test_a_padded_network_has_one_window():
    assert M1.window(1) == M1.window(100_000) == M1.window()


def test_every_field_is_read():
    read = set()

    class Watched(WaveUNetConfig):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    Watched.__name__ = "WaveUNetConfig"  # families know it by its name
    used = set()
    for padding, output in (("valid", "masked"), ("same", "difference")):
        plain = replace(TINY, padding=padding, output=output)
        config = Watched(**{field.name: getattr(plain, field.name) for field in fields(plain)})
        read.clear()  # the checks of __post_init__ do not count
        config.window()
        Separator(Model("watched", config, build_network(config)), "cpu", "float32").separate(np.zeros((1, 2)), 44_100)
        used |= read
    assert {field.name for field in fields(WaveUNetConfig)} <= used
