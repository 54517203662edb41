/* The controls of a song's page. Rows, texts and links are in the HTML already; this brings them to life. */
"use strict";

(() => {
  const song = JSON.parse(document.getElementById("song").textContent);
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const complain = (text) => { find("#failed").textContent = text; };
  const Context = globalThis.AudioContext || globalThis.webkitAudioContext;
  if (!Context || !globalThis.WaveSurfer) {
    complain("This browser has no Web Audio, so it cannot play the tracks together. Each track's file can be opened by its link.");
    return;
  }

  const makeContext = (sampleRate) => new Context({ sampleRate, latencyHint: "interactive" });
  const transport = new Transport(song, chunkLoader(song), makeContext);
  globalThis.waveunet = { transport, song };
  document.body.classList.add("ready");

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    if (!parts[0]) parts.shift();
    return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
  };

  // Which tracks are heard, and how loud.
  const rows = all(".track");
  const tracks = rows.map((row) => ({ row, solo: false, mute: false, volume: 1 }));
  let original = false; // A/B: the mixture instead of the tracks as they are set
  const level = (track) => {
    const heard = tracks.some((each) => each.solo) ? track.solo : !track.mute;
    return heard ? track.volume : 0;
  };
  const hear = () => {
    tracks.forEach((track, number) => transport.setLevel(number, original ? 0 : level(track)));
    transport.setLevel(tracks.length, original ? 1 : 0); // the mixture is the last track
    for (const { row, solo, mute } of tracks) {
      find(".solo", row).setAttribute("aria-pressed", solo);
      find(".mute", row).setAttribute("aria-pressed", mute);
    }
    tracks.forEach((track) => track.row.classList.toggle("silent", !level(track)));
    find("#original").setAttribute("aria-pressed", original);
  };
  const toggle = (track, what) => {
    track[what] = !track[what];
    original = false;
    hear();
  };
  for (const track of tracks) {
    find(".solo", track.row).onclick = () => toggle(track, "solo");
    find(".mute", track.row).onclick = () => toggle(track, "mute");
    find(".volume", track.row).oninput = (event) => {
      track.volume = 10 ** (event.target.value / 20) * (event.target.value > event.target.min);
      event.target.setAttribute("aria-valuetext", track.volume ? `${event.target.value} dB` : "silent");
      hear();
    };
  }
  find("#original").onclick = () => {
    original = !original;
    hear();
  };

  // Waveforms.
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const lanes = all(".lane");
  const waves = lanes.map((lane, number) =>
    WaveSurfer.create({
      container: find(".wave", lane),
      media: transport,
      peaks: [song.peaks[number]],
      duration: transport.duration,
      height: 56,
      cursorWidth: 0,
      waveColor: colour("--wave"),
      progressColor: colour("--played"),
      dragToSeek: number > 0, // dragging in the first marks a loop
    }),
  );
  for (const picture of all(".lane img")) {
    picture.onclick = (event) => { transport.currentTime = (event.offsetX / picture.clientWidth) * transport.duration; };
  }

  // The loop: a region of the first waveform.
  const MIN_LOOP_SECONDS = 0.25;
  const regions = waves[0].registerPlugin(WaveSurfer.Regions.create());
  let region = null;
  let edge = null; // where "from here" was said
  const looping = (seconds) => {
    region?.remove();
    region = null;
    transport.loop = null;
    if (seconds && seconds.end - seconds.start >= MIN_LOOP_SECONDS) {
      region = regions.addRegion({ ...seconds, color: colour("--loop") });
    }
    looped();
  };
  const looped = () => {
    const { rate } = song;
    transport.loop = region && { start: Math.round(region.start * rate), end: Math.min(song.frames, Math.round(region.end * rate)) };
    find("#loop").disabled = !region;
    find("#loop-said").textContent = region ? `Loop from ${clock(region.start)} to ${clock(region.end)}` : "";
  };
  waves[0].on("ready", () => regions.enableDragSelection({ color: colour("--loop") }));
  regions.on("region-created", (made) => {
    if (region && made !== region) region.remove();
    region = made;
    looped();
  });
  regions.on("region-updated", looped);
  find("#loop-from").onclick = () => {
    edge = transport.currentTime;
    find("#loop-said").textContent = `Loop from ${clock(edge)} to …`;
  };
  find("#loop-to").onclick = () => {
    const here = transport.currentTime;
    looping({ start: Math.min(edge ?? 0, here), end: Math.max(edge ?? 0, here) });
  };
  find("#loop").onclick = () => looping(null);

  // Playing and the position.
  const seek = find("#seek");
  seek.max = transport.duration;
  const showTime = () => {
    const now = transport.currentTime;
    const text = `${clock(now)} of ${clock(transport.duration)}`;
    document.documentElement.style.setProperty("--now", now / transport.duration || 0);
    if (document.activeElement !== seek || !seeking) seek.value = now;
    if (seek.getAttribute("aria-valuetext") !== text) {
      seek.setAttribute("aria-valuetext", text);
      find("#time").textContent = text;
    }
  };
  let seeking = false;
  seek.onpointerdown = () => { seeking = true; };
  seek.onpointerup = () => { seeking = false; };
  seek.oninput = () => { transport.currentTime = Number(seek.value); };
  const play = find("#play");
  const showState = () => {
    play.textContent = transport.paused ? "Play" : "Pause";
    document.body.classList.toggle("playing", !transport.paused);
  };
  const start = () => {
    complain("");
    transport.play().catch((error) => { transport.pause(); complain(`The sound does not start: ${error.message}`); });
  };
  play.onclick = () => (transport.paused ? start() : transport.pause());
  transport.addEventListener("timeupdate", showTime);
  for (const name of ["play", "pause", "ended"]) transport.addEventListener(name, showState);
  transport.addEventListener("failed", (event) => complain(event.detail));

  // The keyboard. Keys that a control itself understands are left to it.
  const keys = {
    " ": () => play.click(),
    ArrowLeft: () => { transport.currentTime -= 5; },
    ArrowRight: () => { transport.currentTime += 5; },
    Home: () => { transport.currentTime = 0; },
    a: () => find("#original").click(),
    "[": () => find("#loop-from").click(),
    "]": () => find("#loop-to").click(),
    l: () => find("#loop").click(),
  };
  document.addEventListener("keydown", (event) => {
    const { tagName } = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (tagName === "INPUT" && /^(Arrow|Home)/.test(event.key)) return;
    if ((tagName === "BUTTON" || tagName === "A" || tagName === "SUMMARY") && event.key === " ") return;
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
    const track = digit && tracks[digit - 1];
    const action = track ? () => toggle(track, event.shiftKey ? "mute" : "solo") : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  transport.prepare();
  hear();
  showTime();
  showState();
})();
