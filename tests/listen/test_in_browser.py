"""A song's page in a real browser: what is heard, what is shown, and what is asked for."""

import functools
import http.server
import threading
from dataclasses import replace
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import soundfile

from browser import RECORD
from small_models import TINY, model_of
from waveunet_cli import Separator
from waveunet_cli.listen import find_stems, write_page

pytestmark = pytest.mark.thorough

RATE = 8000
FRAMES = 10 * RATE + 123  # three chunks, the last one short
CLICK_EVERY = RATE // 2
EXACT = 5e-5  # 16 bits, of which Chromium makes floats with a scale of 32767
APART = 1000  # frames between the clicks of one stem and the next


def write(path, samples, subtype="PCM_16", rate_hz=RATE):
    soundfile.write(path, samples, rate_hz, subtype)


def noise(seed, frames=FRAMES, channels=2, gain=0.2):
    return (np.random.default_rng(seed).uniform(-gain, gain, (frames, channels))).astype(np.float32)


def page_of(folder, **stems):
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in stems.items():
        write(folder / f"{name}.wav", samples, "FLOAT")
    (found,) = find_stems(folder, folder)
    return write_page(found).path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "song"


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 96000])
def test_the_sum_of_all_stems_is_the_mixture(browser, folder, rate_hz):
    folder.mkdir()
    frames = 7 * rate_hz + 123
    stems = {name: noise(seed, frames) for seed, name in enumerate(("bass", "drums", "vocals"))}
    for name, samples in stems.items():
        write(folder / f"{name}.wav", samples, "PCM_24", rate_hz)
    write(folder / "mixture.wav", sum(stems.values()), "FLOAT", rate_hz)
    browser.open(write_page(find_stems(folder, folder)[0]).path.as_uri())
    mixture = soundfile.read(folder / "mixture.wav", dtype="float32")[0]
    assert np.abs(browser.render([1, 1, 1, 0], frames) - mixture).max() < 2e-4
    assert np.abs(browser.render([0, 0, 0, 1], frames) - mixture).max() < 2e-4
    start = rate_hz * 2 + 7
    assert np.abs(browser.render([1, 1, 1, 0], frames - start, start) - mixture[start:]).max() < 2e-4
    assert np.abs(browser.render([0, 1, 0, 0], frames) - stems["drums"]).max() < EXACT
    assert browser.complaints() == []


def test_a_mixture_that_is_no_sum_is_heard_as_it_is(browser, folder):
    mixture, vocals = noise(1), noise(2, channels=1)
    browser.open(page_of(folder, vocals=vocals, mixture=mixture).as_uri())
    assert np.abs(browser.render([0, 1], FRAMES) - mixture).max() < EXACT
    assert np.abs(browser.render([1, 0], FRAMES) - vocals).max() < EXACT


def test_a_notebook_shows_the_player(browser, folder, tmp_path):
    vocals, rest = noise(1), noise(2)
    folder.mkdir()
    write(folder / "song.wav", vocals + rest, "FLOAT")
    done = Separator(model_of(replace(TINY, output="difference")), "cpu").separate_file(folder / "song.wav", folder)
    stems = {stem: soundfile.read(path, dtype="float32")[0] for stem, path in done.stems.items()}
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><meta charset=utf-8>{done._repr_html_()}", encoding="utf-8")
    before = sorted(folder.rglob("*"))
    browser.open(notebook.as_uri())
    browser.driver.switch_to.frame(0)
    try:
        for number, samples in enumerate(stems.values()):
            levels = [float(number == each) for each in range(3)]
            assert np.abs(browser.render(levels, FRAMES) - samples).max() < 5 * EXACT
        browser.click("#play")
        browser.wait("waveunet.transport.currentTime > 0.3")
        browser.run("waveunet.transport.pause()")
    finally:
        browser.driver.switch_to.default_content()
    assert browser.complaints() == []
    assert not any(each.endswith(".js") for each in browser.requests())
    assert sorted(folder.rglob("*")) == before


def test_stems_beyond_full_scale_are_not_cut(browser, folder):
    loud = noise(1, gain=3.0)
    browser.open(page_of(folder, loud=loud, quiet=noise(2)).as_uri())
    assert np.abs(browser.render([1, 0, 0], FRAMES) - loud).max() < 5 * EXACT


def test_it_plays_and_asks_nobody(browser, folder):
    page = page_of(folder, vocals=noise(1), rest=noise(2))
    browser.open(page.as_uri())
    browser.click("#play")
    before = browser.wait("waveunet.transport.currentTime")
    assert browser.wait("waveunet.transport.currentTime > arguments[0] + 0.5", before)
    assert browser.text("play") == "Pause"
    browser.press(" ")  # the button has the focus, and takes it
    browser.wait("waveunet.transport.paused")
    at = browser.run("return waveunet.transport.currentTime")
    browser.run("document.activeElement.blur()")
    browser.press(" ")
    browser.wait("!waveunet.transport.paused && waveunet.transport.currentTime > arguments[0]", at)
    browser.run("waveunet.transport.currentTime = waveunet.transport.duration - 0.3")
    browser.wait("waveunet.transport.paused")
    assert browser.run("return waveunet.transport.currentTime === waveunet.transport.duration")
    assert browser.complaints() == []
    requests = browser.requests()
    assert {urlparse(each).scheme for each in requests} <= {"file", "data"}
    assert all(unquote(urlparse(each).path).startswith(str(folder)) for each in requests if each.startswith("file"))
    assert sum(each.endswith(".js") for each in requests) == 3, "each chunk is loaded once"


def test_it_plays_from_a_server(browser, folder):
    page_of(folder, vocals=noise(1))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            browser.open(f"http://127.0.0.1:{server.server_port}/listen.html")
            browser.click("#play")
            browser.wait("waveunet.transport.currentTime > 0.3")
            browser.run("waveunet.transport.pause()")
        finally:
            server.shutdown()
            thread.join()
    assert browser.complaints() == []


def clicks(first):
    samples = np.zeros((66 * RATE, 1), np.float32)
    samples[first::CLICK_EVERY] = 0.5
    return samples


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_tracks_do_not_drift(browser, folder, seconds):
    """All tracks are scheduled for the same frames of one clock, over the seams of chunks; the position follows it.

    That clicks of two stems stay as far apart as they are in their files is rendered without a loudspeaker: what is
    recorded while it plays has gaps on a busy machine.
    """
    browser.open(page_of(folder, one=clicks(APART), two=clicks(2 * APART)).as_uri(), RECORD)
    browser.click("#play")
    browser.wait("waveunet.transport.currentTime > arguments[0]", seconds, seconds=seconds + 60)
    drift = browser.run(
        "const c = recorder.context, first = starts[0][0];"
        "return waveunet.transport.position() / waveunet.song.rate - (c.currentTime - c.outputLatency - first)"
    )
    browser.run("waveunet.transport.pause()")
    assert abs(drift) <= 1e-3
    starts = np.array(browser.run("return starts")).reshape(-1, 3, 2)  # (pieces, tracks, (when, frames))
    assert (starts == starts[:, :1]).all(), "every track starts with the others"
    whens = np.rint(starts[:, 0, 0] * RATE)
    assert (np.diff(whens) == starts[:-1, 0, 1]).all(), "every piece starts where the last one ends"
    heard = browser.render([1, 1, 0], 66 * RATE)[:, 0]
    wanted = np.sort([*range(APART, 66 * RATE, CLICK_EVERY), *range(2 * APART, 66 * RATE, CLICK_EVERY)])
    assert np.array_equal(np.flatnonzero(heard > 0.2), wanted)


def test_a_loop_comes_back_on_the_frame(browser, folder):
    browser.open(page_of(folder, one=clicks(APART), two=clicks(2 * APART)).as_uri(), RECORD)
    browser.run("waveunet.transport.loop = {start: 0, end: 3000}")
    browser.click("#play")
    browser.wait("recorded.length * 4096 > 3 * 8000")
    browser.run("waveunet.transport.pause()")
    recorded = np.array(browser.run("return recorded.map((block) => [...block]).flat()"))
    assert set(np.diff(np.flatnonzero(recorded > 0.2)).tolist()) == {1000, 2000}


SPY = """
window.levels = {};
document.addEventListener("DOMContentLoaded", () => {
  const { transport } = waveunet;
  const set = transport.setLevel.bind(transport);
  transport.setLevel = (track, level) => { window.levels[track] = level; set(track, level); };
});
"""


def levels(browser):
    return browser.run("return [0, 1, 2].map((track) => levels[track])")


def set_volume(browser, track, level_db):
    browser.run(
        "const slider = document.querySelectorAll('.volume')[arguments[0]];"
        "slider.value = arguments[1]; slider.dispatchEvent(new Event('input'))",
        track,
        level_db,
    )


def test_solo_mute_volume_and_a_b(browser, folder):
    browser.open(page_of(folder, vocals=noise(1), rest=noise(2)).as_uri(), SPY)
    rest, vocals = 0, 1
    browser.press("1")
    assert levels(browser) == [1, 0, 0]
    browser.press("1")
    assert levels(browser) == [1, 1, 0]
    browser.click(".track:nth-of-type(3) .mute")  # the first is the mixture
    assert levels(browser) == [1, 0, 0]
    browser.press("a")
    assert levels(browser) == [0, 0, 1]
    browser.press("a")
    assert levels(browser) == [1, 0, 0]
    browser.click(".track:nth-of-type(3) .solo")
    assert levels(browser) == [0, 1, 0]
    pressed = browser.run("return [...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.ariaLabel)")
    assert pressed == ["Solo: vocals alone", "Mute vocals"]
    set_volume(browser, vocals, -6)
    assert levels(browser) == pytest.approx([0, 10 ** (-6 / 20), 0])
    set_volume(browser, vocals, -40)
    assert levels(browser)[vocals] == 0
    assert levels(browser)[rest] == 0


def test_solo_silences_the_others(browser, folder):
    quiet = np.zeros((FRAMES, 1), np.float32)
    browser.open(page_of(folder, clicking=clicks(APART)[:FRAMES], quiet=quiet).as_uri(), RECORD)
    browser.press("2")
    browser.click("#play")
    browser.wait("waveunet.transport.currentTime > 1")
    browser.run("waveunet.transport.pause()")
    assert browser.run("return Math.max(...recorded.map((block) => Math.max(...block)))") == 0


def test_seeking_by_click_and_keys_and_looping(browser, folder):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.open(page_of(folder, vocals=noise(1), rest=noise(2)).as_uri())
    seconds = FRAMES / RATE
    picture = browser.driver.find_elements("css selector", ".lane img")[1]
    browser.wait("document.querySelectorAll('.wave')[1].clientHeight > 10")
    for element in (picture, browser.driver.find_elements("css selector", ".wave")[2]):
        browser.run("waveunet.transport.currentTime = 0")
        element.click()  # in its middle
        assert browser.run("return waveunet.transport.currentTime") == pytest.approx(seconds / 2, abs=0.05)
    browser.press(Keys.ARROW_RIGHT)
    assert browser.run("return waveunet.transport.currentTime") == pytest.approx(seconds / 2 + 5, abs=0.05)
    browser.press(Keys.HOME)
    assert browser.run("return waveunet.transport.currentTime") == 0
    browser.press("[")
    browser.run("waveunet.transport.currentTime = 2")
    browser.press("]")
    assert browser.run("return waveunet.transport.loop") == {"start": 0, "end": 2 * RATE}
    assert browser.text("loop-said") == "Loop from 0:00 to 0:02"
    browser.press("l")
    assert browser.run("return waveunet.transport.loop") is None
    wave = browser.driver.find_elements("css selector", ".wave")[0]
    width = wave.size["width"]
    drag = ActionChains(browser.driver).move_to_element_with_offset(wave, -width // 4, 0).click_and_hold()
    drag.move_by_offset(width // 8, 0).move_by_offset(width // 8, 0).release().perform()
    loop = browser.run("return waveunet.transport.loop")
    assert loop["start"] / FRAMES == pytest.approx(0.25, abs=0.02)
    assert loop["end"] / FRAMES == pytest.approx(0.5, abs=0.02)
    assert browser.complaints() == []


HOSTILE = """<script>alert(1)</script> 'q' "w" %41 & #? $title"""


def test_hostile_names_are_text(browser, tmp_path):
    folder = tmp_path / "a" / HOSTILE.replace("/", "_")
    stem = HOSTILE.replace("/", "|")
    browser.open(page_of(folder, **{stem: noise(1)}).as_uri())
    assert browser.run("return document.querySelector('h1').textContent") == folder.name
    assert browser.run("return document.title") == folder.name
    assert browser.run("return document.querySelectorAll('h2')[1].textContent") == stem
    href = browser.run("return document.querySelector('.track a').href")
    assert unquote(urlparse(href).path) == str(folder / f"{stem}.wav")
    browser.click("#play")
    browser.wait("waveunet.transport.currentTime > 0.1")
    browser.run("waveunet.transport.pause()")
    assert browser.complaints() == []


def test_a_browser_without_web_audio_says_so(browser, folder):
    page = page_of(folder, vocals=noise(1))
    browser.open(page.as_uri(), "delete window.AudioContext; delete window.webkitAudioContext;")
    assert "This browser has no Web Audio" in browser.text("failed")
    assert browser.run("return document.querySelector('.track a').getAttribute('href')") == "vocals.wav"
    assert browser.complaints() == []


def test_sound_that_is_gone_is_named(browser, folder):
    page = page_of(folder, vocals=noise(1))
    (folder / "listen" / "00000.js").unlink()
    browser.open(page.as_uri())
    browser.click("#play")
    browser.wait("document.getElementById('failed').textContent")
    assert browser.text("failed") == "The file listen/00000.js is missing. Write this page again."
    assert browser.run("return waveunet.transport.paused")


def test_everything_has_a_name_for_a_screen_reader(browser, folder):
    browser.open(page_of(folder, vocals=noise(1), rest=noise(2)).as_uri())
    found = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "slider", "link", "image", "region")
    named = [(n["role"]["value"], n["name"]["value"]) for n in found if n.get("role", {}).get("value") in roles]
    assert all(name.strip() for _, name in named), named
    assert ("slider", "Volume of vocals") in named
    assert ("button", "Solo: rest alone") in named
    assert ("region", "vocals") in named


def test_it_fits_a_phone(browser, folder):
    page = page_of(folder, vocals=noise(1), rest=noise(2))
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.open(page.as_uri())
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        heights = browser.run("return [...document.querySelectorAll('button')].map((button) => button.offsetHeight)")
        assert min(heights) >= 40
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
