"""Reads the files of TLS: certificates and keys in PEM. What is wrong is told with the name of the variable."""

import ssl
from pathlib import Path


class CannotUse(Exception):
    """A file of TLS cannot be used. The text says why.

    Attributes:
        variable: names the file.
        file: path.
    """

    def __init__(self, variable: str, file: str, reason: str) -> None:
        super().__init__(reason)
        self.variable, self.file = variable, file


def read(variable: str, file: str) -> bytes:
    """The content of a file.

    Raises:
        CannotUse: the file cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise CannotUse(variable, file, f"cannot be read ({reason})") from None


def load_pair(context: ssl.SSLContext, names: tuple[str, str], certificate: str, key: str) -> None:
    """Load a certificate with its chain, and its key.

    Args:
        names: the variables that name the two files.

    Raises:
        CannotUse: a file cannot be read, or does not hold what it should hold.
    """
    of_certificate, of_key = names
    read(of_certificate, certificate)
    read(of_key, key)

    def refuse() -> bytes:
        raise CannotUse(of_key, key, "is encrypted; give the key without a password")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if "MISMATCH" in reason:
            raise CannotUse(of_key, key, f"is not the key of the certificate in {certificate}") from None
        if "NO_START_LINE" in reason or not reason or "PEM" in reason:
            raise CannotUse(of_key, key, "does not hold a private key in PEM") from None
        raise CannotUse(of_certificate, certificate, f"cannot be used ({reason})") from None
