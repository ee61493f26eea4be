"""The authority: made once, good for its names alone, its key readable by its owner alone."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatehouse.server.drop_in.authority import CertificateAuthority, Leaf

NAMES = ("huggingface.co", "hf.co")


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path, NAMES)


def shake_hands(folder: Path, leaf: Leaf, roots: Path, name: str) -> None:
    """A handshake in memory between a server with this leaf and a client that trusts `roots`.

    Raises:
        SSLError: The client does not believe the server.
    """
    chain = folder / "leaf.pem"
    chain.write_bytes(leaf.chain + leaf.key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain)
    client_context = ssl.create_default_context(cafile=str(roots))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_with_the_roots_believes_the_leaf(
    authority: CertificateAuthority, tmp_path: Path, name: str
) -> None:
    shake_hands(tmp_path, authority.issue(NAMES), authority.roots_path, name)
    shake_hands(tmp_path, authority.issue(NAMES), authority.certificate_path, name)


def test_a_client_without_them_does_not(authority: CertificateAuthority, tmp_path: Path) -> None:
    other = CertificateAuthority.open(tmp_path / "other", NAMES)
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake_hands(tmp_path, authority.issue(NAMES), other.certificate_path, "huggingface.co")


@pytest.mark.parametrize("name", ["example.com", "co", "nothuggingface.co"])
def test_what_it_is_made_to_sign_for_other_names_is_not_believed(
    authority: CertificateAuthority, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ssl.SSLError, match="permitted subtree violation"):
        shake_hands(tmp_path, authority.issue((name,)), authority.certificate_path, name)


def test_a_leaf_is_old_after_a_week(authority: CertificateAuthority, tmp_path: Path) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=8)
    leaf = authority.issue(NAMES, before)
    with pytest.raises(ssl.SSLError, match="expired"):
        shake_hands(tmp_path, leaf, authority.certificate_path, "hf.co")


def test_a_leaf_cannot_sign(authority: CertificateAuthority, tmp_path: Path) -> None:
    leaf = authority.issue(NAMES)
    key = load_pem_private_key(leaf.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(leaf.chain)
    forged = CertificateAuthority(key, certificate, tmp_path).issue(NAMES)
    chain = Leaf(forged.chain + leaf.chain, forged.key)
    with pytest.raises(ssl.SSLError, match=r"invalid CA certificate|path length"):
        shake_hands(tmp_path, chain, authority.certificate_path, "hf.co")


def test_it_is_made_once(authority: CertificateAuthority, tmp_path: Path) -> None:
    before = authority.certificate_path.read_bytes()
    again = CertificateAuthority.open(tmp_path, tuple(reversed(NAMES)))
    assert again.certificate_path.read_bytes() == before
    shake_hands(tmp_path, again.issue(NAMES), authority.certificate_path, "hf.co")


def test_other_names_have_another(authority: CertificateAuthority, tmp_path: Path) -> None:
    before = authority.certificate_path.read_bytes()
    CertificateAuthority.open(tmp_path, ("models.example.com",))
    assert authority.certificate_path.read_bytes() != before


def test_nobody_else_may_read_the_key(authority: CertificateAuthority) -> None:
    folder = authority.certificate_path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private = [path for path in folder.iterdir() if b"PRIVATE" in path.read_bytes()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600]


def test_the_roots_hold_the_public_ones_too(authority: CertificateAuthority) -> None:
    context = ssl.create_default_context(cafile=str(authority.roots_path))
    assert len(context.get_ca_certs()) > 50
    assert authority.certificate_path.read_bytes() in authority.roots_path.read_bytes()
