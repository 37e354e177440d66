"""Certificates for the TLS tests, made with openssl as an operator makes them."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA with its own directory; identities are named by their common name."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> "Authority":
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(directory)
        made._openssl("req", "-x509", *_NEW_KEY, "ca.key", "-out", "ca.pem", "-subj", "/CN=CA")
        return made

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: str, *, san: str = "IP:127.0.0.1", days: int = 1) -> Identity:
        """A new certificate; with negative ``days`` it has expired."""
        subject = f"/O=Hospital/CN={name}"
        self._openssl("req", *_NEW_KEY, f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (self.directory / "extensions").write_text(f"subjectAltName={san}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", str(days)),
            *("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"),
        )
        return Identity(self.directory / f"{name}.pem", self.directory / f"{name}.key")

    def client(self, identity: Identity | None = None) -> ssl.SSLContext:
        """A peer's context that trusts this CA and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=30
        )


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
