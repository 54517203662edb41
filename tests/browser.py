"""A page in a real Chromium, driven by Selenium; skipped where one of them is missing."""

import base64
import json
import shutil

import numpy as np
import pytest

# Renders tracks without a loudspeaker: levels, and from which frame on; gives float32 (channels, frames) in base64.
RENDER = """
const [levels, from, count, done] = arguments;
(async () => {
  const song = waveunet.song;
  const context = new OfflineAudioContext(2, count, song.rate);
  const transport = new Transport(song, chunkLoader(song), null);
  levels.forEach((level, track) => transport.setLevel(track, level));
  await transport.scheduleAll(context, from);
  const made = await context.startRendering();
  const all = [0, 1].map((channel) => {
    let text = "";
    const bytes = new Uint8Array(made.getChannelData(channel).buffer);
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  });
  done(all);
})().catch((error) => done(String(error)));
"""

# Before the page runs: keeps what goes to the loudspeaker, from the first sound on, and what is scheduled.
RECORD = """
window.recorded = [];
window.starts = [];
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to === this.context.destination && this.context instanceof AudioContext && !this.recorder) {
    const recorder = this.context.createScriptProcessor(4096, 1, 1);
    recorder.onaudioprocess = (event) => window.recorded.push(event.inputBuffer.getChannelData(0).slice());
    window.recorder = this.recorder = recorder;
    connect.call(this, recorder);
    connect.call(recorder, to);
  }
  return connect.call(this, to, ...rest);
};
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  window.starts.push([when, this.buffer.length]);
  return start.call(this, when);
};
"""


class Browser:
    """Opens pages and says what came of it."""

    def __init__(self):
        webdriver = pytest.importorskip("selenium.webdriver")
        from selenium.webdriver.chrome.service import Service

        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if program is None or driver is None:
            pytest.skip("chromium and chromedriver are not installed")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in ("--headless=new", "--no-sandbox", "--mute-audio", "--window-size=1100,900"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self._before = []

    def close(self):
        self.driver.quit()

    def open(self, address, before=""):
        """Open a page, after a script that runs before its own."""
        for name in self._before:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": name})
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
        self._before = [added["identifier"]]
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(address)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def click(self, selector):
        self.driver.find_element("css selector", selector).click()

    def press(self, keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def wait(self, script, *arguments, seconds=20):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda _: self.run(f"return {script}", *arguments))

    def render(self, levels, frames, start=0):
        """The sum of all tracks at these levels, (frames, 2)."""
        self.driver.set_script_timeout(120)
        found = self.driver.execute_async_script(RENDER, levels, start, frames)
        assert isinstance(found, list), found
        return np.stack([np.frombuffer(base64.b64decode(channel), np.float32) for channel in found], axis=1)

    def complaints(self):
        """What the console holds, but for the recorder's own warning."""
        return [
            each["message"] for each in self.driver.get_log("browser") if "ScriptProcessorNode" not in each["message"]
        ]

    def requests(self):
        """The addresses of everything that was asked for."""
        messages = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
