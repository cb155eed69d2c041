"""The cluster's certificates: an authority, and a key with a certificate for each part."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Below one directory: ca.crt, NAME.crt and NAME.key, and the key pair sa.key, sa.pub of service accounts."""

    directory: Path

    def make_authority(self) -> None:
        self.directory.mkdir(parents=True)
        self._openssl("req", "-x509", *_CURVE, "-days", "30", "-subj", "/CN=bed", "-keyout", "ca.key", "-out", "ca.crt")
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def make(self, name: str, subject: str, *, names: str = "") -> None:
        """For a client; with subject alternative names for a server, too."""
        extensions = "extendedKeyUsage=clientAuth"
        if names:
            extensions = f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={names}"
        (self.directory / f"{name}.ext").write_text(extensions + "\n")
        self._openssl("req", *_CURVE, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")

    def path(self, file: str) -> str:
        return str(self.directory / file)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)
