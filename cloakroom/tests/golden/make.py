#!/usr/bin/env python3
"""Writes the golden records beside this file, from docs/format.md alone.

It shares no line with the library, so that ../golden.rs checks the document against the code. A golden file is never
changed once a release has written such records: a new version of the format adds files of its own.
"""

import json
import struct
from pathlib import Path

MESSAGE_PACK, JSON = 1, 2
PRINCIPAL, SUCCESSOR, GRACE_END, ENDED, LIFETIME, ENDS_BY, LEVEL = range(1, 8)
USER_AGENT, NETWORK = 129, 130
NEVER = 2**64 - 1

# 2026-01-02T03:04:05.678Z
BEGAN = 1_767_323_045_678
MINUTE = 60_000
HOUR = 60 * MINUTE


def field(tag, value):
    return struct.pack(">BH", tag, len(value)) + value


def record(codec, version, created, issued, last_active, idle, absolute, authenticated, fields, data):
    header = b"CLKR" + struct.pack(">BBH", 1, codec, 0)
    header += struct.pack(">7Q", version, created, issued, last_active, idle, absolute, authenticated)
    header += struct.pack(">II", len(fields), len(data))
    assert len(header) == 72
    return header + fields + data


def message_pack(value):
    """Small maps, short texts, small and 16-bit numbers and booleans: what the golden records hold."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack("B", value) if value < 128 else b"\xcd" + struct.pack(">H", value)
    if isinstance(value, str):
        text = value.encode()
        assert len(text) < 32
        return struct.pack("B", 0xA0 | len(text)) + text
    assert isinstance(value, dict) and len(value) < 16
    entries = b"".join(message_pack(key) + message_pack(entry) for key, entry in value.items())
    return struct.pack("B", 0x80 | len(value)) + entries


def live(extra=b""):
    return record(
        MESSAGE_PACK, 3, BEGAN, BEGAN + 2 * MINUTE, BEGAN + 5 * MINUTE, BEGAN + 35 * MINUTE, BEGAN + 8 * HOUR,
        BEGAN + 2 * MINUTE, field(PRINCIPAL, "user-4711 é".encode()) + extra,
        message_pack({"visits": 700, "name": "Zoë", "cart": {"tea": 2, "gift": True}}),
    )


GOLDEN = {
    "live.bin": live(),
    # What a later version may add: a field that this one passes over.
    "live_with_optional_field.bin": live(field(200, b"from a later version")),
    "anonymous.bin": record(
        MESSAGE_PACK, 1, BEGAN, BEGAN, BEGAN, BEGAN + 30 * MINUTE, NEVER, 0, b"", message_pack({"n": 1}),
    ),
    "json.bin": record(
        JSON, 2, BEGAN, BEGAN, BEGAN + MINUTE, BEGAN + 31 * MINUTE, BEGAN + 8 * HOUR, 0, b"",
        json.dumps({"n": 1, "text": "a \"quoted\" é"}, ensure_ascii=False, separators=(",", ":")).encode(),
    ),
    "tombstone.bin": record(
        MESSAGE_PACK, 3, BEGAN, BEGAN, BEGAN + 5 * MINUTE, BEGAN + 15 * MINUTE, BEGAN + 8 * HOUR, BEGAN + 2 * MINUTE,
        field(SUCCESSOR, b"0123456789abcdef" * 4) + field(GRACE_END, struct.pack(">Q", BEGAN + 5 * MINUTE + 30_000)),
        b"",
    ),
    "replaced.bin": record(
        MESSAGE_PACK, 3, BEGAN, BEGAN, BEGAN + 5 * MINUTE, BEGAN + 6 * MINUTE, NEVER, 0,
        field(SUCCESSOR, b"0123456789abcdef" * 4) + field(ENDED, b""), b"",
    ),
    "ended.bin": record(
        MESSAGE_PACK, 4, BEGAN, BEGAN, BEGAN + 5 * MINUTE, BEGAN + 6 * MINUTE, NEVER, BEGAN, field(ENDED, b""), b"",
    ),
    # Remembered for 30 days, though an identity provider ends it within one; a second factor; and its device.
    "remembered.bin": record(
        MESSAGE_PACK, 1, BEGAN, BEGAN, BEGAN, BEGAN + 720 * HOUR, BEGAN + 24 * HOUR, BEGAN,
        field(PRINCIPAL, b"alice") + field(LIFETIME, struct.pack(">QQB", 720 * HOUR, 720 * HOUR, 1))
        + field(ENDS_BY, struct.pack(">Q", BEGAN + 24 * HOUR)) + field(LEVEL, b"\x02")
        + field(USER_AGENT, b"Mozilla/5.0 (X11; Linux x86_64)") + field(NETWORK, b"203.0.113.0/24"),
        b"",
    ),
}

if __name__ == "__main__":
    for name, content in GOLDEN.items():
        Path(__file__).with_name(name).write_bytes(content)
