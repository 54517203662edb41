/* The sound of a page: all tracks of a song on the one clock of an audio context.

   The song lies in chunks of a few seconds, each a script with the FLAC of every track, since a page that was opened
   from a disk may load scripts from there, and nothing else. A chunk is decoded shortly before it is heard. Every track's
   buffer of a chunk starts at the same frame of the context, and the next chunk's where this one ends, so that tracks
   cannot drift. To wavesurfer.js this object looks like an <audio> element. All counts are frames, but for `currentTime`
   and `duration`, which are seconds. */
"use strict";

const LEAD_SECONDS = 0.1; // between an order to play and the first frame
const LATEST_SECONDS = 0.05; // before its time a piece is scheduled; later might be too late, and shift it
const AHEAD_SECONDS = 5; // how much is scheduled beyond what is heard
const FADE_SECONDS = 0.004; // so that stopping does not click

/* The sum of tracks; a channel that a track lacks is its first. */
function sumOf(tracks) {
  const widest = tracks.reduce((one, other) => (other.length > one.length ? other : one));
  return widest.map((_, channel) => {
    const sum = new Float32Array(widest[0].length);
    for (const channels of tracks) {
      const samples = channels[channel] ?? channels[0];
      for (let frame = 0; frame < sum.length; frame += 1) sum[frame] += samples[frame];
    }
    return sum;
  });
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

/* Returns a function that promises the `count` tracks of a chunk, the mixture last. Each is an array of Float32Array,
   one for each channel. A chunk without a mixture is one whose stems add up to it. */
function chunkLoader({ folder, tracks: count, rate }) {
  const decoder = new OfflineAudioContext(1, 1, rate); // which, unlike one that plays, is there before the first click
  const waiting = new Map();
  globalThis.waveunetChunk = (number, tracks) => waiting.get(number)?.(tracks);
  const decode = async ([gain, text]) => {
    const buffer = await decoder.decodeAudioData(bytesOf(text).buffer);
    return Array.from({ length: buffer.numberOfChannels }, (_, channel) => {
      const samples = buffer.getChannelData(channel);
      return gain === 1 ? samples : samples.map((sample) => sample * gain);
    });
  };
  return async (number) => {
    const name = `${folder}/${String(number).padStart(5, "0")}.js`;
    const script = document.createElement("script");
    try {
      const inPage = document.getElementById(`chunk-${number}`);
      const tracks = inPage ? JSON.parse(inPage.textContent) : await new Promise((resolve, reject) => {
        waiting.set(number, resolve);
        script.onerror = () => reject(new Error(`The file ${decodeURIComponent(name)} is missing. Write this page again.`));
        script.src = name;
        document.head.append(script);
      });
      const decoded = await Promise.all(tracks.map(decode));
      return decoded.length < count ? [...decoded, sumOf(decoded)] : decoded;
    } finally {
      waiting.delete(number);
      script.remove();
    }
  };
}

class Transport extends EventTarget {
  #context = null;
  #makeContext;
  #song;
  #load;
  #cache = new Map(); // chunk → promise of its tracks; the last two
  #gains = [];
  #levels;
  #master = null;
  #pieces = []; // what is scheduled: {at: frame of the context, from: frame of the song, count}
  #sources = new Set();
  #next = null; // {at, from} of the piece to come; null behind the last
  #cursor = 0; // where to play from
  #turn = 0; // grows with every stop: what an older turn awaited is void
  #filling = false;
  #paused = true;
  #loop = null;

  /* song: {rate, frames, chunkFrames, tracks}; load: as chunkLoader returns; makeContext: () => an audio context */
  constructor(song, load, makeContext) {
    super();
    this.#song = song;
    this.#load = load;
    this.#makeContext = makeContext;
    this.#levels = new Array(song.tracks).fill(1);
    setInterval(() => this.#tick(), 200);
  }

  // What wavesurfer.js wants of an <audio> element.
  src = "";
  currentSrc = "";
  volume = 1;
  muted = false;
  playbackRate = 1;
  readyState = 4;
  seeking = false;
  load() {}
  removeAttribute() {}
  get duration() { return this.#song.frames / this.#song.rate; }
  get paused() { return this.#paused; }
  get ended() { return this.#cursor >= this.#song.frames; }
  get currentTime() { return this.position() / this.#song.rate; }
  set currentTime(seconds) {
    this.#cursor = Math.max(0, Math.min(this.#song.frames, Math.round(seconds * this.#song.rate)));
    if (this.#paused) this.prepare();
    else this.#restart();
    this.#tell("seeking", "timeupdate", "seeked");
  }

  async play() {
    if (!this.#paused) return;
    this.#open(this.#context ?? this.#makeContext(this.#song.rate));
    this.#paused = false;
    if (this.ended) this.#cursor = 0;
    this.#tell("play");
    const frame = () => {
      if (this.#paused) return;
      this.#tell("timeupdate");
      requestAnimationFrame(frame);
    };
    frame();
    this.#turn += 1; // an older pause shall not suspend the context any more
    const turn = this.#turn;
    await this.#context.resume();
    if (turn === this.#turn) this.#restart(); // else there was a pause, or a seek that has started already
  }

  pause() {
    if (this.#paused) return;
    this.#cursor = this.position();
    this.#paused = true;
    this.#stop();
    const turn = this.#turn;
    setTimeout(() => turn === this.#turn && this.#context.suspend(), 300); // an idle clock needs no battery
    this.#tell("pause", "timeupdate");
  }

  /* The frame of the song that is heard now. */
  position() {
    if (this.#paused || !this.#pieces.length) return this.#cursor;
    const late = Math.round((this.#context.outputLatency || 0) * this.#song.rate);
    const now = Math.round(this.#context.currentTime * this.#song.rate) - late;
    const piece = this.#pieces.findLast((each) => each.at <= now);
    return piece ? piece.from + Math.min(now - piece.at, piece.count) : this.#cursor;
  }

  /* Load what would be played first, so that it is there at once. */
  prepare() {
    if (this.#paused) this.#chunk(Math.min(this.#cursor, this.#song.frames - 1)).catch(() => {});
  }

  get loop() { return this.#loop; }
  /* null, or {start, end} in frames: what is played again and again once it is reached */
  set loop(loop) {
    this.#loop = loop;
    if (this.#paused) return;
    this.#cursor = this.position();
    this.#restart();
  }

  /* Set how loud a track is, 1 as it is in its file. */
  setLevel(track, level) {
    this.#levels[track] = level;
    if (this.#gains.length) {
      this.#gains[track].gain.setTargetAtTime(level, this.#context.currentTime, FADE_SECONDS);
    }
  }

  /* Schedule everything from a frame on in a context that is not running yet: to render without a loudspeaker. */
  async scheduleAll(context, from = 0) {
    this.#open(context);
    this.#next = { at: 0, from };
    while (this.#next) await this.#schedule(this.#turn);
  }

  #open(context) {
    if (context === this.#context) return;
    this.#context = context;
    this.#master = context.createGain();
    this.#master.connect(context.destination);
    this.#gains = this.#levels.map((level) => {
      const node = context.createGain();
      node.gain.value = level;
      node.connect(this.#master);
      return node;
    });
  }

  #restart() {
    this.#stop();
    this.#next = { at: this.#soon(), from: this.#cursor };
    this.#master.gain.setValueAtTime(1, this.#next.at / this.#song.rate);
    this.#tick();
  }

  #stop() {
    this.#turn += 1;
    this.#filling = false;
    this.#next = null;
    this.#pieces = [];
    const now = this.#context.currentTime;
    this.#master.gain.cancelScheduledValues(now);
    this.#master.gain.setTargetAtTime(0, now, FADE_SECONDS);
    for (const source of this.#sources) source.stop(now + LATEST_SECONDS);
    this.#sources.clear();
  }

  #soon() { return Math.ceil((this.#context.currentTime + LEAD_SECONDS) * this.#song.rate); }

  /* Keep enough scheduled; notice the end. */
  async #tick() {
    if (this.#paused || this.#filling) return;
    const turn = this.#turn;
    this.#filling = true;
    try {
      while (turn === this.#turn && this.#next && this.#next.at < this.#soon() + AHEAD_SECONDS * this.#song.rate) {
        await this.#schedule(turn);
      }
    } catch (error) {
      if (turn === this.#turn) {
        this.pause();
        this.dispatchEvent(new CustomEvent("failed", { detail: error.message || String(error) }));
      }
      return;
    }
    if (turn !== this.#turn) return;
    this.#filling = false;
    if (!this.#paused && !this.#next && this.position() >= this.#song.frames) {
      this.pause();
      this.#cursor = this.#song.frames;
      this.#tell("timeupdate", "ended");
    }
  }

  /* Schedule one piece: the rest of a chunk, or what of it lies before the end of the loop. */
  async #schedule(turn) {
    const { rate, frames, chunkFrames } = this.#song;
    const { from } = this.#next;
    if (from >= frames) {
      this.#next = null;
      return;
    }
    const number = Math.floor(from / chunkFrames);
    const offset = from - number * chunkFrames;
    const tracks = await this.#chunk(from);
    if (turn !== this.#turn) return;
    const inside = this.#loop && from < this.#loop.end;
    const end = Math.min((number + 1) * chunkFrames, frames, inside ? this.#loop.end : Infinity);
    const count = end - from;
    const buffers = tracks.map((channels) => {
      const buffer = this.#context.createBuffer(channels.length, count, rate);
      channels.forEach((samples, channel) => buffer.copyToChannel(samples.subarray(offset, offset + count), channel));
      return buffer;
    });
    if (this.#context.state === "running" && this.#next.at < (this.#context.currentTime + LATEST_SECONDS) * rate) {
      this.#next.at = this.#soon(); // the chunk came too late; all tracks go on together
    }
    const { at } = this.#next;
    buffers.forEach((buffer, track) => {
      const source = this.#context.createBufferSource();
      source.buffer = buffer;
      source.connect(this.#gains[track]);
      source.onended = () => {
        source.disconnect();
        this.#sources.delete(source);
      };
      source.start(at / rate);
      this.#sources.add(source);
    });
    this.#pieces.push({ at, from, count });
    if (this.#pieces.length > 100) this.#pieces.shift();
    this.#next = { at: at + count, from: inside && end === this.#loop.end ? this.#loop.start : end };
  }

  #chunk(frame) {
    const number = Math.floor(frame / this.#song.chunkFrames);
    if (!this.#cache.has(number)) {
      if (this.#cache.size > 1) this.#cache.delete(this.#cache.keys().next().value);
      const promise = this.#load(number);
      promise.catch(() => this.#cache.delete(number));
      this.#cache.set(number, promise);
    }
    return this.#cache.get(number);
  }

  #tell(...names) {
    for (const name of names) this.dispatchEvent(new Event(name));
  }
}
