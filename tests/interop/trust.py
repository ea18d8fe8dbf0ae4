"""
Certificates that the iroh bindings accept.

The bindings trust Mozilla's roots, which are compiled in (crate webpki-roots; nothing on
the machine or in the environment changes that), so unmodified bindings do not accept a
local server as n0's. In a copy of them, the 64 bytes of one root's public key are
replaced with a test key. Everything else in the copy is unchanged, including the checks
of names, dates and signatures.
"""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SkipTest

from tests.certificates import name_of, pem_of, sign

_LIBRARY = "libiroh_ffi.so"

#: The object identifier of the curve P-256, in DER.
_P256 = bytes.fromhex("06082a8648ce3d030107")

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _replaceable(library: bytes) -> tuple[x509.Name, bytes]:
    """
    A root that occurs once in C{library}: its name and its key.

    @raise SkipTest: no known root was found.
    """
    if find_spec("certifi") is None:
        raise SkipTest("certifi can't be imported (pip install certifi): it has the names of Mozilla's roots")
    for pem in _PEM.findall(import_module("certifi").contents()):
        der = ssl.PEM_cert_to_DER_cert(pem)
        if _P256 not in der:
            continue
        root = x509.load_der_x509_certificate(der)
        key = root.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        if library.count(_point(key)) == 1:
            return root.subject, _point(key)
    raise SkipTest("the iroh bindings contain no root that a test can replace")


class Trust:
    """
    A modified copy of the bindings, and its root.

    @ivar bindings: a folder with a package C{iroh} that trusts the test root.
    @ivar root: the file of the root, for programs with a configurable trust store.
    """

    def __init__(self, folder: Path) -> None:
        """
        @param folder: the folder for all files.
        @raise SkipTest: the copy can't be created.
        """
        spec = find_spec("iroh")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        if not (package / _LIBRARY).exists():
            raise SkipTest(f"the iroh bindings are not in a file {_LIBRARY} here")
        library = (package / _LIBRARY).read_bytes()
        self._name, theirs = _replaceable(library)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.bindings = folder / "bindings"
        copy = self.bindings / "iroh"
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", _LIBRARY))
        (copy / _LIBRARY).write_bytes(library.replace(theirs, _point(self._key.public_key())))
        self.root = folder / "root.pem"
        is_root = x509.BasicConstraints(ca=True, path_length=None)
        self.root.write_bytes(sign(self._name, self._name, self._key, self._key, [is_root]))

    def certify(self, names: Sequence[str], certificate: Path, key_file: Path) -> None:
        """
        Write a server's certificate and its key.

        @param names: the names of the server.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        ]
        certificate.write_bytes(sign(name_of(names[0]), self._name, key, self._key, extensions))
        key_file.touch(0o600)
        key_file.write_bytes(pem_of(key))
