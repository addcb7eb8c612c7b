"""Self-signed certificates for servers on loopback, made when a test needs one: no key lies in the repository."""

import base64
import hashlib
import ipaddress
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

_PUBLIC_EXPONENT = 65537
_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]
_DATE = "%y%m%d%H%M%SZ"
_RSA, _SHA256_RSA = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11"
_SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def self_signed(folder: Path, *, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the certificate's file, for an IP address or a host name."""
    p, q = _prime(), _prime()
    modulus, secret_exponent = p * q, pow(_PUBLIC_EXPONENT, -1, (p - 1) * (q - 1))
    public_key = _sequence(_integer(modulus), _integer(_PUBLIC_EXPONENT))
    now = datetime.now(UTC)
    validity = [_der(0x17, f"{now + timedelta(days=days):{_DATE}}".encode()) for days in (-1, 1)]
    signed_with = _sequence(_oid(_SHA256_RSA), _der(0x05))
    subject = _sequence(_der(0x31, _sequence(_oid("2.5.4.3"), _der(0x0C, b"a test's store"))))
    body = _sequence(
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(63) + 1),
        signed_with,
        subject,
        _sequence(*validity),
        subject,
        _sequence(_sequence(_oid(_RSA), _der(0x05)), _der(0x03, b"\0" + public_key)),
        _der(0xA3, _sequence(*_extensions(name, public_key))),
    )
    digest = _SHA256_PREFIX + hashlib.sha256(body).digest()
    size = modulus.bit_length() // 8
    padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded), secret_exponent, modulus).to_bytes(size)
    certificate = folder / "certificate.pem"
    certificate.write_text(_pem("CERTIFICATE", _sequence(body, signed_with, _der(0x03, b"\0" + signature))))
    numbers = (0, modulus, _PUBLIC_EXPONENT, secret_exponent, p, q)
    crt = (secret_exponent % (p - 1), secret_exponent % (q - 1), pow(q, -1, p))
    key = folder / "key.pem"
    key.write_text(_pem("RSA PRIVATE KEY", _sequence(*map(_integer, numbers + crt))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def _extensions(name: str, public_key: bytes) -> list[bytes]:
    try:
        general_name = _der(0x87, ipaddress.ip_address(name).packed)
    except ValueError:
        general_name = _der(0x82, name.encode())
    key_id = hashlib.sha256(public_key).digest()[:20]
    return [
        _sequence(_oid("2.5.29.17"), _der(0x04, _sequence(general_name))),
        _sequence(_oid("2.5.29.19"), _der(0x01, b"\xff"), _der(0x04, _sequence(_der(0x01, b"\xff")))),
        _sequence(_oid("2.5.29.14"), _der(0x04, _der(0x04, key_id))),
    ]


def _prime() -> int:
    """A number of 1,024 bits that is prime for all that matters here; its two highest bits are set."""
    while True:
        candidate = secrets.randbits(1024) | 3 << 1022 | 1
        if all(candidate % prime for prime in _SMALL_PRIMES) and pow(2, candidate - 1, candidate) == 1:
            return candidate


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(size)]) + size + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytes([first * 40 + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.insert(0, number & 0x7F | 0x80)
        encoded += bytes(digits)
    return _der(0x06, encoded)


def _pem(label: str, content: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(content).decode()}-----END {label}-----\n"
