"""The last layer of a trained network, fitted anew to songs that the network was not trained on.

    python recipes/refit.py OUT.safetensors CHECKPOINT.safetensors SONG... [--absent 0.1] [--penalty 0.01]

A network is surer of songs that it knows by heart than of others, and its last layer trusts its features as they are on
the former. Least squares find the layer that is best where the features are what they will be: on other songs.

SONG is a folder of <stem>.wav (or .flac, .ogg). A stem that is none of the network's sources is part of the source that
its configuration calls residual (as drums are of accompaniment); what is mono, short or of another rate is made to fit,
and a mixture is not read. Each song counts twice, each time relative to its energy: as a whole, and as its residual
alone (times --absent), which is to stay where it is. Where only the residual sounds, there is no whole. --penalty holds
the layer where it was, the more the larger.

Activation and masks are left out of account: with tanh it is near for music well below full scale. Printed for each
song is the error of all predicted sources, relative to them (or to the mixture, where they are silent), with the old
layer and with the new one. Written as float16.
"""

import argparse
from collections.abc import Iterator, Sequence
from math import inf, log10
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from waveunet_cli.datasets.tracks import MIXTURES, Reader, Track, aligned, stem_files
from waveunet_cli.errors import AudioReadError, WaveUNetError
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.wave_u_net.carried import BLOCK_FRAMES, CarriedNetwork, CarriedStream
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet

LEAST_PENALTY = 1e-9  # below, two channels that are the same leave the equations without a solution
NOTHING = 1e-30  # stands for energies of 0


class Case(NamedTuple):
    """What least squares need to know of a mixture, all divided by its energy. R rows are read, P · C are predicted."""

    name: str
    weight: float
    gram: Tensor  # (R, R), float64
    onto: Tensor  # (R, P · C)
    target: float

    def error_db(self, layer: Tensor) -> float:
        """Of the layer (P · C, R), relative to the target."""
        error = float((layer @ self.gram * layer).sum() - 2 * (layer.T * self.onto).sum()) + self.target
        return 10 * log10(max(error, NOTHING) / (self.target or 1))


def tracks_of(song: Path, config: WaveUNetConfig) -> list[Track]:
    """The stems in a song's folder, each a track of the one source that it is part of."""
    files = stem_files(song) if song.is_dir() else {}
    sources = {name: name if name in config.sources else config.residual for name in files if name not in MIXTURES}
    if "accompaniment" == config.residual in files:  # is whole; other stems are what it was made of
        sources = {name: source for name, source in sources.items() if name == source}
    if not sources:
        raise AudioReadError(f"{song}: no stems there; give folders of <stem>.wav, .flac or .ogg")
    return [aligned(str(files[name]), {source: (files[name],)}) for name, source in sources.items()]


def read_sources(tracks: Sequence[Track], config: WaveUNetConfig) -> Tensor:
    """(S, C, t), as long as the longest stem."""
    reader, frames = Reader(config.sample_rate, config.channels), max(t.frames_at(config.sample_rate) for t in tracks)
    y = torch.zeros(len(config.sources), config.channels, frames)
    for track in tracks:
        (source,) = track.sources
        y[config.sources.index(source)] += reader.read(track, [source], 0, frames)[0]
    return y


def read_by_last_layer(network: WaveUNet, mixture: Tensor) -> Iterator[Tensor]:
    """(C, t) → blocks (R, t'), R = C + towers · F_c + 1: mixture, features and 1; more may follow the last frame."""
    seen: list[Tensor] = []

    def sources_of(x: Tensor, features: list[Tensor]) -> Tensor:
        seen.append(torch.cat([x, *features, torch.ones_like(x[:, :1])], 1)[0])  # (R, t)
        return WaveUNet.sources_of(network, x, features)

    network.sources_of = sources_of  # what a stream calls
    carried = CarriedNetwork(network)
    stream, early = CarriedStream(carried), carried.delay  # so many frames to come precede the first
    for block in [*mixture[None].split(BLOCK_FRAMES, -1), None]:
        if block is None:
            stream.flush()
        else:
            stream.push(block)
        for rows in seen:
            yield rows[:, early:]
            early = max(0, early - rows.shape[1])
        seen.clear()


def case_of(network: WaveUNet, sources: Tensor, name: str, weight: float) -> Iterator[Case]:
    """The case of the sum of sources (S, C, t); none if that is silent, or has no weight."""
    mixture, targets = sources.sum(0), sources[:-1].flatten(0, 1)  # (C, t), (P · C, t)
    energy = float(mixture.double().square().sum())
    if not (energy and weight):
        return
    gram, onto, start = 0, 0, 0
    for block in read_by_last_layer(network, mixture):
        y = targets[:, start : start + block.shape[1]].double()
        rows = block[:, : y.shape[1]].double()
        gram, onto = gram + rows @ rows.T, onto + rows @ y.T  # (R, R), (R, P · C)
        start += y.shape[1]
    assert start == mixture.shape[1]
    yield Case(name, weight, gram / energy, onto / energy, float(targets.double().square().sum()) / energy)


def cases_of(network: WaveUNet, tracks: Sequence[Track], absent: float) -> list[Case]:
    """A song's: as a whole, and its residual alone."""
    sources = read_sources(tracks, network.config)
    alone = torch.zeros_like(sources)
    residual = network.config.sources.index(network.config.residual)
    alone[residual] = sources[residual]
    whole = [] if sources.equal(alone) else case_of(network, sources, "whole", 1)
    return [*whole, *case_of(network, alone, "alone", absent)]


def fitted(layer: Tensor, cases: Sequence[Case], penalty: float) -> Tensor:
    """The layer (P · C, R) that minimizes the error + penalty · the energies of what changes in each row's share."""
    gram = sum(case.weight * case.gram for case in cases)
    onto = sum(case.weight * case.onto for case in cases)
    pull = penalty * gram.diagonal().clamp(min=NOTHING)
    return layer + torch.linalg.solve(gram + pull.diag(), onto - gram @ layer.T).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("songs", type=Path, nargs="+", metavar="song")
    parser.add_argument("--absent", type=float, default=0.1, help="weight of residuals alone [default: 0.1]")
    parser.add_argument("--penalty", type=float, default=0.01, help="on changes of the layer [default: 0.01]")
    options = parser.parse_args()
    if not 0 <= options.absent < inf:
        parser.error(f"--absent {options.absent:g}: no weight; give a number from 0 on")
    if not LEAST_PENALTY <= options.penalty < inf:
        parser.error(f"--penalty {options.penalty:g}: no penalty; give a number from {LEAST_PENALTY:g} on")
    try:
        network = load_checkpoint(options.checkpoint).network
        if not (isinstance(network, WaveUNet) and network.config.additive and network.config.padding == "valid"):
            parser.error(f"{options.checkpoint}: no valid network of the difference kind; train it further instead")
        tracks = [tracks_of(song, network.config) for song in options.songs]  # all, before the long work
        songs = [cases_of(network, of_song, options.absent) for of_song in tracks]
    except WaveUNetError as error:
        parser.error(str(error))
    cases = [case for song in songs for case in song]
    if not cases:
        parser.error(f"{options.songs[0]}: silent, or only a residual that --absent 0 leaves out, as all; add songs")
    old = torch.cat([network.output.weight[..., 0], network.output.bias[:, None]], 1).double()
    new = fitted(old, cases, options.penalty)
    for path, song in zip(options.songs, songs, strict=True):
        changes = [f"{case.name} {case.error_db(old):.2f} → {case.error_db(new):.2f} dB" for case in song]
        print(f"{path}: {', '.join(changes) or 'left out'}")
    weights = network.state_dict() | {"output.weight": new[:, :-1, None].float(), "output.bias": new[:, -1].float()}
    try:
        save_checkpoint(options.out, network.config, weights, torch.float16)
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
