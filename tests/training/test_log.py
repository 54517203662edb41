from pathlib import Path

import pytest
import torch

from training_songs import RATE_HZ, recipe_values, write_songs
from waveunet_cli.training.events import Stepped, Validated
from waveunet_cli.training.log import Log, spectrogram_picture
from waveunet_cli.training.recipe import recipe_from
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.validate import Excerpt, Score


def test_tensorboard_gets_curves_sound_and_pictures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = recipe_from(recipe_values(write_songs(tmp_path / "songs")))
    excerpt = Excerpt(torch.randn(2, 2, 4000), 3 * torch.randn(2, 2, 4000))
    with Log(recipe, tmp_path, RATE_HZ, quiet=True, tensorboard=True) as log:
        for step in (20, 40):
            log.on_event(Stepped(Progress(step=step), 0.5, 1e-3, 100, 1.0, 0.0, False))
            log.on_event(Validated(Progress(step=step), Score(0.25, {"vocals": 3.0}, excerpt)))
    (path,) = tmp_path.glob("events.*")
    events = accumulator.EventAccumulator(str(path)).Reload()
    assert [event.value for event in events.Scalars("sdr_db/vocals")] == [3.0, 3.0]
    assert {"loss", "learning_rate", "validation_loss"} <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"spectrogram/accompaniment", "spectrogram/vocals"}
    counts = {tag: len(events.Audio(tag)) for tag in events.Tags()["audio"]}
    assert counts == {
        "estimate/accompaniment": 2, "estimate/vocals": 2, "truth/accompaniment": 1, "truth/vocals": 1, "mixture": 1,
    }  # fmt: skip


def test_a_picture_shows_a_tone_at_its_place() -> None:
    x = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000).repeat(2, 1)
    picture = spectrogram_picture(x)
    assert picture.shape[:2] == (1, 513)
    row = 512 - round(1000 / 8000 * 1024)
    assert float(picture[0, row].min()) == pytest.approx(1.0, abs=0.01)  # full scale is white
    assert float(picture[0, row + 100].max()) < 0.3
    assert not spectrogram_picture(torch.zeros(1, 50)).any()
