"""Opening a model by name, by path, or from a configuration."""

from dataclasses import replace
from pathlib import Path

import pytest

from waveunet_cli.errors import CheckpointError, ModelNotFoundError
from waveunet_cli.hub import catalogue, load_model, registry
from waveunet_cli.hub.cards import read_card
from waveunet_cli.hub.registry import shipped_folder
from waveunet_cli.networks.wave_u_net.config import M5


def test_the_embedded_model_opens_by_name():
    model = load_model("vocals")
    assert model.name == "vocals"
    assert model.config == replace(M5, output="masked")
    assert not model.network.training


def test_a_path_opens_as_string_and_as_path(monkeypatch: pytest.MonkeyPatch):
    path = shipped_folder() / "vocals.safetensors"
    assert load_model(path).config == load_model(str(path)).config
    monkeypatch.chdir(path.parent)
    assert load_model("vocals.safetensors").name == "vocals"


def test_a_configuration_gives_random_weights():
    config = replace(M5, levels=2, filters=2)
    assert load_model(config).config is config


def test_an_unknown_name_says_what_exists():
    with pytest.raises(ModelNotFoundError, match=r"vocal: no such model; did you mean vocals\?.*known: .*vocals") as e:
        load_model("vocal")
    assert "\n" not in str(e.value)


def test_a_missing_path_is_a_checkpoint_error(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(tmp_path / "none.safetensors")


def test_a_model_opens_by_its_own_card_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models = tmp_path / "models"
    models.mkdir()
    for name in ("vocals.toml", "vocals.safetensors"):
        (models / name).symlink_to(shipped_folder() / name)
    (models / "other.toml").write_text("no card")
    monkeypatch.setattr(registry, "read_card", lambda path: read.append(path.stem) or read_card(path))
    monkeypatch.setattr(catalogue, "shipped_folder", lambda: models)
    read: list[str] = []
    assert load_model("Vocals").name == "vocals"
    assert read == ["vocals"]
