"""TLS certificates for servers on loopback, issued when a test needs one: the repository holds no key."""

import ssl
from pathlib import Path

import trustme


def issue_certificate(folder: Path, *, name: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS context for an IP address or host name, and the file of the CA that signed it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return context, ca_file
