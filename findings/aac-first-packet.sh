#!/bin/sh
# FFmpeg's AAC encoder (8.1.2 and 5.1, Debian's), 96 kbit/s, 28 November 2026: a song that begins at once loses its first
# packet. Expected: as near to the tone in the first 1024 frames as in those after. Found: silence. With a packet of
# silence before the tone all is well, so src/waveunet_cli/audio/libav_encode.py encodes one, and the edit list skips it.
# Exits with 1 as long as FFmpeg does so. Needs ffmpeg.
set -e
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
peak() { # of the difference between the tone and what is decoded, in frames 0 to 1023 behind so many
    ffmpeg -v error -f lavfi -i "sine=330:r=44100:d=0.5,volume=1.6" -af "adelay=$1S:all=1" -c:a pcm_s16le -y tone.wav
    ffmpeg -v error -i tone.wav -c:a aac -b:a 96k -y tone.m4a
    ffmpeg -hide_banner -i tone.wav -i tone.m4a -lavfi \
        "[0]volume=-1[a];[a][1]amix=normalize=0:duration=shortest,atrim=start_sample=$1:end_sample=$(($1 + 1024)),volumedetect" \
        -f null - 2>&1 | sed -n 's/.*max_volume: //p'
}
echo "error at the start: $(peak 0); behind 1024 frames of silence: $(peak 1024); expected: both below -30 dB"
peak 0 | awk '{ exit $1 > -30 }'
