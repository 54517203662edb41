"""From a card on a server to a model that separates: converted, recorded, trusted once and refused when it changes."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from faulty_server import Fault, serving
from golden_files import arrays, golden
from waveunet_cli.cli import main
from waveunet_cli.errors import CheckpointError, ConfigError, DownloadError, ModelNotFoundError
from waveunet_cli.hub import Cache, Catalogue, Downloader, load_model
from waveunet_cli.hub.registry import shipped_folder
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.wave_u_net.config import M5

GOLDEN = golden("tf/M5")
INDEX, DATA = "m5-4242.index", "m5-4242.data-00000-of-00001"
CARD = """
name = "lab-m5"
title = "A model of the lab"
architecture = "M5"
changes = { filters = FILTERS }
format = "tensorflow"
stems = ["accompaniment", "vocals"]
residual = "accompaniment"
sample_rate = 22050
channels = 2
licence = "CC0-1.0"
authors = ["The lab"]
citation = ""
homepage = ""
verified = false
notes = ""
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "WAVEUNET_OFFLINE", "WAVEUNET_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with serving() as running:
        running.files = {f"/{name}": (GOLDEN / name).read_bytes() for name in (INDEX, DATA)}
        yield running


@pytest.fixture
def told():
    return []


@pytest.fixture
def catalogue(server, told):
    """Catalogues of the server's registry, each as a new process would see it."""
    made = []
    cards = server.url("/cards")

    def catalogue(registry=cards, **options):
        downloader = Downloader(on_event=lambda note: told.append(note.text), sleep=lambda _: None, **options)
        made.append(downloader)
        return Catalogue(Cache(), downloader, registry)

    yield catalogue
    for downloader in made:
        downloader.__exit__()


def publish(server, *, hashes=True, urls=True, archive=False, filters=4, folder="/cards"):
    """Put a card of the golden model on the server, and what it needs."""
    card = CARD.replace("FILTERS", str(filters))
    for name in (INDEX, DATA):
        body = (GOLDEN / name).read_bytes()
        card += f'\n[[files]]\nname = "{name}"\n'
        card += f'urls = ["{server.url("/" + name)}"]\n' if urls else ""
        if hashes:
            card += f'size = {len(body)}\nsha256 = "{hashlib.sha256(body).hexdigest()}"\n'
        else:
            card += f"expected_size = {len(body)}\n"
    if archive:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as members:
            members.writestr("models/README", "other things")
            for name in (INDEX, DATA):
                members.write(GOLDEN / name, f"models/m5/{name}")
        server.files["/all.zip"] = packed.getvalue()
        card += f'\n[archive]\nname = "all.zip"\nexpected_size = 5000000\nurls = ["{server.url("/all.zip")}"]\n'
    server.files[f"{folder}/lab-m5.toml"] = card.encode()
    server.files[f"{folder}/index.toml"] = b'cards = ["lab-m5.toml"]'


def test_a_model_of_a_registry_opens_by_name_and_computes_what_the_reference_does(server, told):
    publish(server)
    server.faults[f"/{DATA}"] = [Fault(stop_after=1_000_000)]
    model = load_model("lab-m5", registry=server.url("/cards"), on_event=lambda note: told.append(note.text))
    reference = arrays(GOLDEN)
    out = model.network(torch.from_numpy(reference["mixture"].T)[None])[0]  # (S, C, t)
    for name, stem in zip(model.config.sources, out, strict=True):
        assert np.abs(stem.clamp(-1, 1).numpy().T - reference[name]).max() <= 5e-6
    assert told[0] == f"lab-m5: downloading 3.4 MB from {server.address[7:]}; licence: CC0-1.0"
    assert [headers.get("Range") for headers in server.asked(f"/{DATA}")] == [None, "bytes=1000000-"]

    asked = len(server.requests)
    assert load_model("lab-m5").config == model.config  # from the cache: neither registry nor network
    assert len(server.requests) == asked


def test_only_the_converted_model_is_kept_and_its_origin_recorded(server, catalogue):
    publish(server)
    hub = catalogue()
    assert hub.download(["lab-m5"]) == []
    kept = {path.name for path in Cache().root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    registry = Cache().registry(server.url("/cards/")).path.name
    assert kept == {"lab-m5.safetensors", "lab-m5.json", registry}
    record = hub.entry("lab-m5").record
    assert record.files[INDEX] == hashlib.sha256((GOLDEN / INDEX).read_bytes()).hexdigest()
    assert record.origin == server.url(f"/{INDEX}")
    assert hub.entry("LAB-M5").state == "downloaded"
    hub.verify("lab-m5")


def test_a_changed_checkpoint_in_the_cache_does_not_verify(server, catalogue):
    publish(server)
    hub = catalogue()
    path = hub.weights("lab-m5")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DownloadError, match="sha256"):
        hub.verify("lab-m5")


def test_what_the_addresses_do_not_yield_comes_out_of_the_archive(server, catalogue, told):
    publish(server, archive=True)
    server.always[f"/{DATA}"] = Fault(flip=77)
    hub = catalogue()
    assert load_checkpoint(hub.weights("lab-m5")).config.filters == 4
    assert any("trying all.zip" in line for line in told)
    assert not list((Cache().root / "downloads").rglob("*.*"))


def test_a_model_that_is_only_in_an_archive(server, catalogue):
    publish(server, hashes=False, urls=False, archive=True)
    hub = catalogue()
    hub.weights("lab-m5")
    assert hub.cache.first_use("lab-m5").keys() == {INDEX, DATA, "all.zip"}


@pytest.mark.parametrize("damage", ["other files", "a link", "no archive"])
def test_what_is_wrong_with_an_archive_names_it_as_its_card_does(server, catalogue, damage):
    publish(server, hashes=False, urls=False, archive=True)
    packed = io.BytesIO(b"<html>")
    if damage == "other files":
        with zipfile.ZipFile(packed, "w") as members:
            members.writestr("README", "other things")
    elif damage == "a link":
        with tarfile.open(fileobj=packed, mode="w:gz") as links:
            link = tarfile.TarInfo(INDEX)
            link.type = tarfile.SYMTYPE
            links.addfile(link)
    server.files["/all.zip"] = packed.getvalue()
    (error,) = catalogue().download(["lab-m5"])
    assert str(error).startswith("lab-m5: all.zip: ")


def test_an_archive_of_known_hash_vouches_for_what_is_in_it(server, catalogue, told):
    publish(server, hashes=False, urls=False)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for name in (INDEX, DATA):
            members.add(GOLDEN / name, f"./{name}")
    body = packed.getvalue()
    server.files["/all.tar.gz"] = body
    server.files["/cards/lab-m5.toml"] += (
        f'\n[archive]\nname = "all.tar.gz"\nsize = {len(body)}\nsha256 = "{hashlib.sha256(body).hexdigest()}"\n'
        f'urls = ["{server.url("/all.tar.gz")}"]\n'
    ).encode()
    hub = catalogue()
    assert load_checkpoint(hub.weights("lab-m5")).config.filters == 4
    assert hub.cache.first_use("lab-m5") == {}
    assert len(told) == 1
    assert told[0].startswith(f"lab-m5: downloading {len(body) / 1e6:.1f} MB from ")  # not "about"


def test_an_unpublished_hash_is_recorded_once_and_a_change_refused(server, catalogue, told):
    publish(server, hashes=False)
    hub = catalogue()
    hub.weights("lab-m5")
    assert "recorded it" in told[-1]
    hub.remove("lab-m5")
    changed = bytearray(server.files[f"/{DATA}"])
    changed[100] ^= 1
    server.files[f"/{DATA}"] = bytes(changed)
    (error,) = catalogue().download(["lab-m5"])
    assert isinstance(error, DownloadError)
    assert "sha256" in str(error)
    assert "remove --forget lab-m5" in str(error)
    assert not Cache().weights_path("lab-m5").exists()

    catalogue().remove("lab-m5", forget=True)
    assert hub.cache.first_use("lab-m5") == {}
    server.files[f"/{DATA}"] = (GOLDEN / DATA).read_bytes()
    assert catalogue().download(["lab-m5"]) == []


def test_an_error_page_is_never_recorded_as_the_model(server, catalogue):
    publish(server, hashes=False)
    server.files[f"/{DATA}"] = b"<html>deleted</html>"
    (error,) = catalogue().download(["lab-m5"])
    assert isinstance(error, CheckpointError)
    assert Cache().first_use("lab-m5") == {}
    server.files[f"/{DATA}"] = (GOLDEN / DATA).read_bytes()
    assert catalogue().download(["lab-m5"]) == []


def test_a_checkpoint_that_is_not_what_its_card_says_is_refused(server, catalogue):
    publish(server, filters=5)
    (error,) = catalogue().download(["lab-m5"])
    assert isinstance(error, CheckpointError)
    assert "another model" in str(error)
    assert catalogue().entry("lab-m5").state == "available"


def test_one_failure_does_not_stop_the_others(server, catalogue):
    publish(server)
    (error,) = catalogue().download(["nonesuch", "lab-m5"])
    assert isinstance(error, ModelNotFoundError)
    assert catalogue().entry("lab-m5").state == "downloaded"


def test_two_at_once_fetch_once(server, catalogue):
    publish(server)
    server.always[f"/{DATA}"] = Fault()
    hubs = [catalogue(), catalogue()]
    for hub in hubs:
        hub.entries()
    threads = [threading.Thread(target=hub.download, args=(["lab-m5"],)) for hub in hubs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked(f"/{DATA}")) == 1


@pytest.mark.thorough
def test_two_processes_fetch_once(server, tmp_path, monkeypatch):
    """Both are held up until both have read the card; then only one asks for the weights."""
    publish(server)
    monkeypatch.setenv("WAVEUNET_MODELS", server.url("/cards"))
    slow = Fault(status=503, headers={"Retry-After": "1"})  # the one waits here while the other starts
    server.faults[f"/{INDEX}"] = [slow]
    download = "import sys\nfrom waveunet_cli.cli import main\nmain(['models', 'download', 'lab-m5'])"
    both = [
        subprocess.Popen([sys.executable, "-c", download], stderr=subprocess.PIPE, text=True, env=os.environ.copy())
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(server.asked(f"/{DATA}")) == 1
    assert len(server.asked(f"/{INDEX}")) == 2  # the 503, then the file
    assert sorted("downloading 3.4 MB" in text for text in said) == [False, True]
    assert load_model("lab-m5", offline=True).config.filters == 4


def test_whoever_waits_for_a_lock_is_told(tmp_path):
    told, held, free = [], threading.Event(), threading.Event()

    def hold():
        with Cache(tmp_path).lock("model"):
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def waiting():
        told.append("waiting")
        free.set()

    with Cache(tmp_path).lock("model", waiting):
        assert told == ["waiting"]
    holder.join()


def test_offline_a_model_that_is_not_here_is_an_error_without_a_request(server, catalogue):
    publish(server)
    catalogue().entries()  # the registry's last copy
    asked = len(server.requests)
    with pytest.raises(DownloadError, match="network is switched off"):
        catalogue(offline=True).weights("lab-m5")
    assert len(server.requests) == asked


def test_the_last_copy_of_a_registry_serves_when_it_is_out_of_reach(server, catalogue, told):
    publish(server)
    assert "lab-m5" in catalogue().entries()
    server.always["/cards/index.toml"] = Fault(status=404)
    assert "lab-m5" in catalogue().entries()
    assert "its last copy serves" in told[-1]
    with pytest.raises(DownloadError, match="HTTP 404"):
        catalogue(server.url("/nowhere")).entries()


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (b"cards = 3", "cards: found 3; expected a list"),
        (b"cards = [", "no TOML"),
        (b'cards = ["../x.toml"]', "plain name"),
        (b"", "missing: cards"),
        (b"<html>log in</html>", "no TOML"),
        ("<html>Anmelden für".encode("latin-1"), "no TOML"),
    ],
)
def test_a_bad_registry_index_is_one_line(server, catalogue, index, complaint):
    server.files["/cards/index.toml"] = index
    with pytest.raises(ConfigError, match=complaint):
        catalogue().entries()


def test_a_registry_cannot_take_a_shipped_name(server, catalogue, tmp_path):
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "vocals.toml").write_text((shipped_folder() / "vocals.toml").read_text())
    (tmp_path / "cards" / "mine.toml").write_text((shipped_folder() / "m4.toml").read_text().replace('"m4"', '"mine"'))
    found = catalogue(str(tmp_path / "cards"))
    assert {"vocals", "mine"} <= found.entries().keys()  # one bad card stops no list
    assert found.entries()["vocals"].state == "embedded"
    assert "vocals is the name of a model shipped" in str(found.damaged()["vocals"])
    with pytest.raises(ConfigError, match="neither a folder nor"):
        catalogue(str(tmp_path / "none")).entries()
    assert catalogue(str(tmp_path / "none")).entry("vocals").state == "embedded"  # needs no registry


def test_files_beside_a_card_of_an_address_need_no_addresses_of_their_own(server, catalogue):
    publish(server, urls=False)
    server.files |= {f"/cards/{name}": server.files.pop(f"/{name}") for name in (INDEX, DATA)}
    assert catalogue().download(["lab-m5"]) == []


def test_a_folder_of_cards_needs_no_network(server, catalogue, tmp_path, monkeypatch):
    """Foreign formats are converted into the cache, a safetensors file is opened where it lies."""
    publish(server, urls=False)
    folder = tmp_path / "lab"
    folder.mkdir()
    for name in (INDEX, DATA):
        (folder / name).write_bytes((GOLDEN / name).read_bytes())
    (folder / "lab-m5.toml").write_bytes(server.files["/cards/lab-m5.toml"])
    (folder / "index.toml").write_bytes(server.files["/cards/index.toml"])  # so that it can also be served
    monkeypatch.setenv("WAVEUNET_MODELS", str(folder))
    assert load_model("lab-m5", offline=True).config.filters == 4

    (folder / DATA).unlink()
    catalogue(None).remove("lab-m5")
    with pytest.raises(DownloadError, match="put it beside its card"):
        load_model("lab-m5")
    (folder / DATA).write_bytes((GOLDEN / DATA).read_bytes())

    weights = folder / "own.safetensors"
    catalogue(None).weights("lab-m5").rename(weights)
    text = CARD.replace("FILTERS", "4").replace('"lab-m5"', '"own"').replace('"tensorflow"', '"safetensors"')
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    text += f'[[files]]\nname = "own.safetensors"\nsize = {weights.stat().st_size}\nsha256 = "{digest}"\n'
    (folder / "own.toml").write_text(text)
    assert catalogue(None).entry("own").path == weights
    assert load_model("own").name == "own"


def test_a_cache_that_cannot_be_written_is_one_line(server, catalogue, tmp_path, monkeypatch):
    publish(server)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cache cannot be used .* set WAVEUNET_CACHE"):
        catalogue().entries()


def test_a_page_in_place_of_an_index_or_a_card_never_replaces_the_last_copy(server, catalogue, told):
    publish(server)
    catalogue().entries()
    page = b"<!DOCTYPE html><html>Welcome to our hotel</html>"
    good = {path: server.files[f"/cards/{path}"] for path in ("index.toml", "lab-m5.toml")}
    for path, content in good.items():
        server.files[f"/cards/{path}"] = page
        hub = catalogue()
        assert hub.entries()["lab-m5"].card.title == "A model of the lab"
        assert hub.damaged() == {}
        assert f"{path}: is no TOML" in told[-1]
        assert told[-1].endswith("its last copy serves")
        assert str(told[-1]).isprintable()
        server.files[f"/cards/{path}"] = content
        with pytest.raises(DownloadError, match="switched off"):  # offline, the good copy is still there
            catalogue(offline=True).weights("lab-m5")


def test_a_bad_card_stops_no_other(server, catalogue, tmp_path):
    publish(server)
    server.files["/cards/index.toml"] = b'cards = ["lab-m5.toml", "bad.toml", "page.toml"]'
    server.files |= {"/cards/bad.toml": b'name = "bad"', "/cards/page.toml": b"<html>"}
    folder = tmp_path / "cards"
    folder.mkdir()
    for name in ("lab-m5.toml", "bad.toml", "page.toml"):
        (folder / name).write_bytes(server.files[f"/cards/{name}"])
    for registry in (server.url("/cards"), str(folder)):
        hub = catalogue(registry)
        assert hub.entries().keys() >= {"lab-m5", "vocals"}
        assert hub.damaged().keys() == {"bad", "page"}
        with pytest.raises(ConfigError, match=r"bad\.toml: missing: title"):
            hub.entry("bad")
        with pytest.raises(ConfigError, match="is the name of a published model"):
            hub.import_checkpoint(GOLDEN, "bad")
        assert hub.entry("lab-m5").state == "available"


def test_without_h5py_a_verified_download_is_kept(server, catalogue, monkeypatch):
    body = (golden("keras/shallow") / "model.h5").read_bytes()
    card = CARD.replace('"M5"', '"Keras port"').replace("changes = { filters = FILTERS }", "")
    card = card.replace('"tensorflow"', '"keras"').replace("22050", "16000")
    card = card.replace('["accompaniment", "vocals"]', '["vocals", "accompaniment"]')
    card += f'[[files]]\nname = "model.h5"\nexpected_size = {len(body)}\n'
    server.files |= {"/cards/model.h5": body, "/cards/index.toml": b'cards = ["lab-m5.toml"]'}
    server.files["/cards/lab-m5.toml"] = card.encode()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "h5py", None)
        for _ in range(2):
            (error,) = catalogue().download(["lab-m5"])
            assert "pip install 'waveunet[h5]'; then try again" in str(error)
    assert catalogue().download(["lab-m5"]) == []
    assert len(server.asked("/cards/model.h5")) == 1


def test_an_error_while_the_cache_is_locked_is_not_the_cache_s(catalogue, tmp_path, monkeypatch):
    config = replace(M5, levels=2, filters=2)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, config, load_model(config).network.state_dict())

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("waveunet_cli.hub.install.shutil.copyfile", broken)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read \(.*Input/output error") as error:
        catalogue(None).import_checkpoint(path, "mine")
    assert "WAVEUNET_CACHE" not in str(error.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_the_cache_s(catalogue, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("waveunet_cli.hub.install.save_checkpoint", full, raising=False)
    monkeypatch.setattr("waveunet_cli.importers.convert.save_checkpoint", full)
    with pytest.raises(CheckpointError, match=r"the cache cannot be used .*WAVEUNET_CACHE"):
        catalogue(None).import_checkpoint(GOLDEN, "mine")


def test_a_damaged_record_says_how_to_get_rid_of_it(server, catalogue):
    publish(server)
    hub = catalogue()
    record = hub.weights("lab-m5").with_suffix(".json")
    record.write_text("{}")
    assert "vocals" in hub.entries()
    assert "models remove lab-m5" in str(hub.damaged()["lab-m5"])
    with pytest.raises(CheckpointError, match="models remove lab-m5"):
        hub.entry("lab-m5")
    hub.remove("lab-m5")
    assert hub.damaged() == {}
    assert hub.entry("lab-m5").state == "available"


def with_sidecar(folder, text):
    for name in (INDEX, DATA):
        (folder / name).write_bytes((GOLDEN / name).read_bytes())
    (folder / "m5-4242.waveunet.toml").write_text(text)


def test_a_sidecar_says_what_the_tensors_cannot_unless_an_option_does(catalogue, tmp_path):
    with_sidecar(
        tmp_path,
        'activation = "linear"\npadding = "same"\nsample_rate = 16000\nstems = ["band", "voice"]\nresidual = "voice"',
    )
    for number, given in enumerate((tmp_path, tmp_path / INDEX, tmp_path / "m5-4242")):
        record = catalogue(None).import_checkpoint(given, f"mine-{number}", ImportOptions(sample_rate=8000))
        assert (record.stems, record.residual, record.sample_rate) == (("band", "voice"), "voice", 8000)
    assert (load_model("mine-0").config.padding, load_model("mine-0").config.activation) == ("same", "linear")


@pytest.mark.parametrize(
    "text",
    [
        'padding = "maybe"',
        "sample_rate = true",
        "sample_rate = -1",
        "stride = 4.0",
        'stems = ["a"]',
        'stems = "a,b"',
        "colour = 3",
        "x = [",
    ],
)
def test_a_bad_sidecar_is_one_line(catalogue, tmp_path, text):
    with_sidecar(tmp_path, text)
    with pytest.raises(ConfigError, match=r"m5-4242\.waveunet\.toml: .*") as error:
        catalogue(None).import_checkpoint(tmp_path, "mine")
    assert "\n" not in str(error.value)


def test_damaged_notes_of_first_uses_are_one_line(server, catalogue):
    publish(server, hashes=False)
    hub = catalogue()
    hub.weights("lab-m5")
    for damage in ("[]", "{", '{"lab-m5": 3}'):
        (Cache().root / "first-use.json").write_text(damage)
        with pytest.raises(CheckpointError, match=r"first-use\.json: damaged .* delete it") as error:
            hub.remove("lab-m5")
        assert "\n" not in str(error.value)


def test_a_name_that_leads_out_of_the_cache_removes_nothing(catalogue):
    hub = catalogue(None)
    hub.import_checkpoint(GOLDEN, "mine")
    for name in ("../models", "", "../models/mine", "."):
        with pytest.raises(ModelNotFoundError):
            hub.remove(name, forget=True)
        with pytest.raises(ModelNotFoundError):
            hub.entry(name)
    assert hub.entry("mine").path.is_file()


def test_stems_that_cannot_name_files_are_refused(catalogue, tmp_path):
    config = replace(M5, levels=2, filters=2, sources=("vocals_01", "rest"), residual="rest")
    save_checkpoint(tmp_path / "a.safetensors", config, load_model(config).network.state_dict())
    header = (tmp_path / "a.safetensors").read_bytes().replace(b"vocals_01", b"../vocals")
    (tmp_path / "a.safetensors").write_bytes(header)
    with pytest.raises(
        CheckpointError, match=r"sources: found \['\.\./vocals', 'rest'\]; expected a list .* a name of"
    ):
        catalogue(None).import_checkpoint(tmp_path / "a.safetensors", "mine")
    with pytest.raises(CheckpointError, match="no stem is named 'drums'"):
        catalogue(None).import_checkpoint(GOLDEN, "mine", ImportOptions(residual="drums"))


def test_a_source_that_cannot_be_read_is_not_taken_for_a_bad_cache(catalogue, tmp_path, monkeypatch):
    (tmp_path / "model").write_bytes(b"x")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("waveunet_cli.importers.foreign.is_torch_file", refused)
    with pytest.raises(CheckpointError, match=r"model: cannot be read \(.*Permission denied\); check the path"):
        catalogue(None).import_checkpoint(tmp_path / "model", "mine")


@pytest.mark.parametrize("given", [GOLDEN, GOLDEN / INDEX, GOLDEN / "m5-4242"])
def test_a_bundle_is_imported_as_folder_index_or_prefix(catalogue, given):
    record = catalogue(None).import_checkpoint(given, "mine", ImportOptions(sample_rate=16_000))
    assert record.sample_rate == 16_000
    assert load_model("mine").config.filters == 4
    assert catalogue(None).entry("mine").state == "imported"
    with pytest.raises(ConfigError, match="a model of this name"):
        catalogue(None).import_checkpoint(given, "mine")


def test_the_files_of_a_card_become_its_model_without_a_download(server, catalogue, tmp_path):
    publish(server)
    for name in (INDEX, DATA):
        del server.files[f"/{name}"]
    other = tmp_path / "other"
    other.mkdir()
    hub = catalogue()
    with pytest.raises(ConfigError, match=r"is the name of a published model, and .*other does not hold it"):
        hub.import_checkpoint(other, "lab-m5")
    for name in (INDEX, DATA):
        (other / name).write_bytes((GOLDEN / name).read_bytes()[:-1] + b"?")
    with pytest.raises(DownloadError, match=rf"other: {INDEX} has sha256 .* other or damaged bytes"):
        hub.import_checkpoint(other, "lab-m5")
    with pytest.raises(ConfigError, match="is a published model; leave out --sample-rate"):
        hub.import_checkpoint(GOLDEN, "lab-m5", ImportOptions(sample_rate=8000))
    assert hub.entry("lab-m5").state == "available"

    record = hub.import_checkpoint(GOLDEN, "lab-m5")
    assert (record.licence, record.residual, record.sample_rate) == ("CC0-1.0", "accompaniment", 22_050)
    assert record.origin == server.url(f"/{INDEX}")
    assert hub.entry("lab-m5").state == "downloaded"
    with pytest.raises(ConfigError, match="on this machine already"):
        hub.import_checkpoint(GOLDEN, "lab-m5")


def test_one_of_our_own_checkpoints_is_imported_as_it_is(catalogue, tmp_path):
    config = replace(M5, levels=2, filters=2)
    save_checkpoint(tmp_path / "a.safetensors", config, load_model(config).network.state_dict())
    catalogue(None).import_checkpoint(tmp_path / "a.safetensors", "mine")
    assert load_model("mine").config == config


@pytest.mark.parametrize("name", ["../mine", "Mine", "a b", "", "vocals", "m4"])
def test_names_that_cannot_be_given(catalogue, name):
    with pytest.raises(ConfigError):
        catalogue(None).import_checkpoint(GOLDEN, name)


def test_a_failed_import_leaves_nothing(catalogue, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        catalogue(None).import_checkpoint(tmp_path / "x.safetensors", "mine")
    with pytest.raises(ModelNotFoundError):
        catalogue(None).entry("mine")
    assert not list(Cache().root.rglob("converted*"))
    with pytest.raises(ModelNotFoundError, match="nothing to remove"):
        catalogue(None).remove("mine")


def test_the_command_line_downloads_and_keeps_stdout_clean(server, capsys, monkeypatch):
    publish(server)
    monkeypatch.setenv("WAVEUNET_MODELS", server.url("/cards"))
    with pytest.raises(SystemExit) as refused:
        main(["models", "download", "--offline", "lab-m5"])
    assert refused.value.code == 1
    assert server.requests == []
    with pytest.raises(SystemExit) as done:
        main(["models", "download", "lab-m5"])
    assert done.value.code == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("lab-m5: downloading 3.4 MB from 127.0.0.1")  # and no bar: no terminal


def test_a_port_is_compared_with_its_card_by_what_both_know(server, catalogue):
    """Its architecture is read from the checkpoint; stems, rate and channels must be the card's."""
    body = (GOLDEN.parents[1] / "pytorch" / "joint_learned" / "model").read_bytes()
    card = CARD.replace('"M5"', '"PyTorch port"').replace("changes = { filters = FILTERS }", "")
    card = card.replace('"tensorflow"', '"pytorch"').replace("22050", "44100")
    card = card.replace('["accompaniment", "vocals"]', '["bass", "drums", "other", "vocals"]')
    card = card.replace('residual = "accompaniment"', 'residual = "other"')
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
    card += f'[[files]]\nname = "model"\nexpected_size = {len(body)}\ngit_sha1 = "{blob}"\n'
    server.files |= {"/cards/model": body, "/cards/index.toml": b'cards = ["lab-m5.toml"]'}
    server.files["/cards/lab-m5.toml"] = card.replace("channels = 2", "channels = 1").encode()
    (error,) = catalogue().download(["lab-m5"])
    assert "another model" in str(error)
    server.files["/cards/lab-m5.toml"] = card.encode()
    assert load_checkpoint(catalogue().weights("lab-m5")).config.sources == ("bass", "drums", "other", "vocals")
    assert Cache().first_use("lab-m5") == {}  # its hash is published
