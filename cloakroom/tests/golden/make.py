#!/usr/bin/env python3
"""Writes the golden records beside this file, from docs/format.md alone.

It shares no line with the library, so that ../golden.rs checks the document against the code. A golden file is never
changed once a release has written such records: a new version of the format adds files of its own.
"""

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path

MESSAGE_PACK, JSON = 1, 2
PRINCIPAL, SUCCESSOR, GRACE_END, ENDED, LIFETIME, ENDS_BY, LEVEL = range(1, 8)
USER_AGENT, NETWORK = 129, 130
ID = 128
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

# The key that seals, as 32 random bytes that an operator might have made, and a nonce that no program chooses twice.
SECRET = bytes.fromhex("2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff")
NONCE = bytes(range(100, 124))
STORE_KEY = b"c34860c604f32ade51f88c056fe9db6143a40486eeb6bc2693cc46f1c89b492e"


def chacha_rounds(state):
    def quarter(a, b, c, d):
        for add, to, turn in ((b, (a, d), 16), (d, (c, b), 12), (b, (a, d), 8), (d, (c, b), 7)):
            one, other = to
            state[one] = (state[one] + state[add]) & 0xFFFFFFFF
            mixed = state[other] ^ state[one]
            state[other] = (mixed << turn | mixed >> 32 - turn) & 0xFFFFFFFF

    for _ in range(10):
        for columns in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*columns)
        for diagonals in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonals)
    return state


CONSTANTS = struct.unpack("<4L", b"expand 32-byte k")


def chacha_block(key, counter, nonce):
    start = [*CONSTANTS, *struct.unpack("<8L", key), counter, *struct.unpack("<3L", nonce)]
    mixed = chacha_rounds(list(start))
    return struct.pack("<16L", *((a + b) & 0xFFFFFFFF for a, b in zip(start, mixed)))


def xchacha20_poly1305(key, nonce, plain, aad):
    """draft-irtf-cfrg-xchacha-03, over RFC 8439."""
    mixed = chacha_rounds([*CONSTANTS, *struct.unpack("<8L", key), *struct.unpack("<4L", nonce[:16])])
    subkey, rest = struct.pack("<8L", *mixed[:4], *mixed[12:]), bytes(4) + nonce[16:]
    stream = b"".join(chacha_block(subkey, 1 + block, rest) for block in range(len(plain) // 64 + 1))
    sealed = bytes(a ^ b for a, b in zip(plain, stream))

    def padded(part):
        return part + bytes(-len(part) % 16)

    one_time = chacha_block(subkey, 0, rest)
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total, text = 0, padded(aad) + padded(sealed) + struct.pack("<2Q", len(aad), len(sealed))
    for place in range(0, len(text), 16):
        total = (total + int.from_bytes(text[place : place + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    total += int.from_bytes(one_time[16:32], "little")
    return sealed + (total & (1 << 128) - 1).to_bytes(16, "little")


def seal(plain, *context):
    key = hmac.digest(SECRET, b"cloakroom/seal-key/1", hashlib.sha256)
    key_id = hmac.digest(SECRET, b"cloakroom/seal-key-id/1/XChaCha20-Poly1305", hashlib.sha256)[:8]
    aad = b"cloakroom/seal\0" + b"".join(struct.pack(">L", len(part)) + part for part in context) + key_id
    return key_id + NONCE + xchacha20_poly1305(key, NONCE, plain, aad)


def sealed_record(plain, namespace, key):
    data = len(plain) - 72 - struct.unpack(">L", plain[64:68])[0]
    head, data = plain[: len(plain) - data], plain[len(plain) - data :]
    head = head[:5] + bytes([head[5] | 0x80]) + head[6:]
    bound = head[:32] + bytes(16) + head[48:68] + bytes(4) + head[72:]
    data = seal(data, b"\1", b"record", namespace, key, bound)
    return head[:68] + struct.pack(">L", len(data)) + head[72:] + data


def token(plain, name, namespace):
    return base64.urlsafe_b64encode(seal(plain, b"\1", b"cookie", name, namespace, b"")).rstrip(b"=")


GOLDEN["sealed.bin"] = sealed_record(GOLDEN["live.bin"], b"shop", STORE_KEY)
GOLDEN["token.txt"] = token(
    record(
        MESSAGE_PACK, 1, BEGAN, BEGAN, BEGAN, BEGAN + 30 * MINUTE, BEGAN + 8 * HOUR, 0,
        field(ID, b"Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM"), message_pack({"n": 1}),
    ),
    b"__Host-id", b"shop",
)

if __name__ == "__main__":
    for name, content in GOLDEN.items():
        Path(__file__).with_name(name).write_bytes(content)
