"""What is wrong with a file of TLS is told with the variable that names the file."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.support.tls import pem_files
from tornado_gateway.wire.tls_files import CannotUse, load_pair

NAMES = ("CERT", "KEY")


def test_a_pair_is_loaded_or_the_wrong_file_is_named(tmp_path: Path) -> None:
    authority, empty = trustme.CA(), tmp_path / "empty"
    certificate, key = pem_files(authority.issue_cert("a.test"), tmp_path, "a")
    _, other = pem_files(authority.issue_cert("b.test"), tmp_path, "b")
    empty.write_text("nothing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_pair(context, NAMES, certificate, key)
    for pair, variable, reason in [
        (("/none", key), "CERT", "cannot be read (No such file or directory)"),
        ((certificate, "\0"), "KEY", "cannot be read (not a path)"),
        ((certificate, other), "KEY", f"is not the key of the certificate in {certificate}"),
        ((certificate, str(empty)), "KEY", "does not hold a private key in PEM"),
    ]:
        with pytest.raises(CannotUse) as failed:
            load_pair(context, NAMES, *pair)
        assert (failed.value.variable, str(failed.value)) == (variable, reason)
