"""The TensorFlow program's checkpoints: its outputs are reproduced, and damaged bundles are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from waveunet_cli.checkpoint import load_checkpoint
from waveunet_cli.convert import import_checkpoint

HERE = Path(__file__).parent / "golden" / "tf"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "tf"
VARIANTS = ["M1", "M2", "M3", "M4", "M5", "M6"]


def golden(variant):
    for folder in (HERE / variant, SHARED / variant):
        if folder.is_dir():
            return folder
    return pytest.skip(f"the reference's {variant} is not in this checkout")


def options_of(folder):
    config = json.loads((folder / "config.json").read_text())
    return {
        "padding": "valid" if config["context"] else "same",
        "sources": tuple(config["source_names"]),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_reference_outputs_are_reproduced(variant, tmp_path):
    folder = golden(variant)
    import_checkpoint(folder, tmp_path / "m.safetensors", **options_of(folder))
    model = load_checkpoint(tmp_path / "m.safetensors")
    reference = np.load(folder / "io.npz")

    out = model.network(torch.from_numpy(reference["mixture"].T)[None])[0]  # (S, C, t)

    assert out.shape[0] == len(model.config.sources)
    for name, stem in zip(model.config.sources, out, strict=True):
        if model.config.additive and name == model.config.sources[-1]:
            stem = stem.clamp(-1, 1)  # the reference clips its difference at test time
        assert np.abs(stem.numpy().T - reference[name]).max() <= 5e-6, name
