"""gpg as the judge, in both directions: kinds of keys, ciphers, compression, rings, sub-keys, expiry, revocation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import BytesReader, read_all
from walg_core.settings.config import Config
from walg_crypto_openpgp import gpg as gpg_module
from walg_crypto_openpgp.crypter import OpenPgp, create
from walg_crypto_openpgp.plugin import OPENPGP

KINDS = {
    "rsa": ("rsa2048", "rsa2048"),
    "rsa-alone": ("rsa2048", ""),
    "elgamal": ("dsa1024", "elg1024"),
    "cv25519": ("ed25519", "cv25519"),
    "p256": ("nistp256", "nistp256"),
    "p384": ("nistp384", "nistp384"),
    "p521": ("nistp521", "nistp521"),
    "brainpool": ("brainpoolP256r1", "brainpoolP256r1"),
    "secp256k1": ("secp256k1", "secp256k1"),
}
CRLF = b"line\r\nline\rline\n\0" * 5000


def cipher(public: bytes, private: bytes = b"", passphrase: bytes = b"") -> OpenPgp:
    return OpenPgp(lambda: public, lambda: private or public, "the ring", lambda: passphrase)


def seal(crypter: OpenPgp, data: bytes) -> bytes:
    return read_all(crypter.encrypt(BytesReader(data)))


def opened(crypter: OpenPgp, data: bytes) -> bytes:
    return read_all(crypter.decrypt(BytesReader(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_both_ways(gpg, kind: str) -> None:
    user = f"{kind}@example.org"
    gpg.make(user, *KINDS[kind])
    crypter = cipher(gpg.public(user), gpg.private(user))
    for data in (b"", b"hello", CRLF):
        sealed = seal(crypter, data)
        assert gpg.decrypt(sealed) == data
        assert opened(crypter, sealed) == data
        assert opened(crypter, gpg.encrypt(data, user)) == data


@pytest.mark.parametrize("kind", ["rsa", "cv25519", "p256"])
def test_protected_keys(locked_gpg, kind: str) -> None:
    user = f"{kind}@example.org"
    locked_gpg.make(user, *KINDS[kind])
    public, private = locked_gpg.public(user), locked_gpg.private(user)
    sealed = seal(cipher(public), b"data")
    passphrase = locked_gpg.passphrase.encode()
    assert locked_gpg.decrypt(sealed) == b"data"
    assert opened(cipher(public, private, passphrase), sealed) == b"data"
    with pytest.raises(ConfigError, match="checksum failure"):
        opened(cipher(public, private, b" " + passphrase), sealed)
    with pytest.raises(ConfigError, match="none is configured"):
        opened(cipher(public, private), sealed)
    # Writing never needs the passphrase, even with the private key alone.
    assert opened(cipher(public, private, passphrase), seal(cipher(private), b"more")) == b"more"


@pytest.mark.parametrize(
    "options",
    [
        ("--cipher-algo", "3DES"),
        ("--cipher-algo", "CAST5"),
        ("--cipher-algo", "AES192"),
        ("--cipher-algo", "AES256", "--compress-algo", "zlib", "-z", "9"),
        ("--compress-algo", "zip"),
        ("--compress-algo", "bzip2"),
        ("--compress-algo", "none"),
        ("--hidden-recipient", "forms@example.org"),
        ("--sign", "-u", "forms@example.org"),
        ("--set-filename", "a name"),
        ("-t",),
    ],
    ids=" ".join,
)
def test_every_form_that_gpg_writes(gpg, options: tuple[str, ...]) -> None:
    user = "forms@example.org"
    if user not in gpg.run("-k").decode():
        gpg.make(user, *KINDS["cv25519"])
    crypter = cipher(gpg.public(user), gpg.private(user))
    data = b"one\ntwo\n" * 9000
    expected = data.replace(b"\n", b"\r\n") if options == ("-t",) else data
    assert opened(crypter, gpg.encrypt(data, user, *options)) == expected
    unsized = gpg.run("-r", user, *options, "-e", "-", data=data)
    assert opened(crypter, unsized) == expected


def test_unsupported_ciphers_are_refused_with_a_word(gpg) -> None:
    user = "odd@example.org"
    gpg.make(user, *KINDS["cv25519"])
    for name in ("TWOFISH", "CAMELLIA256"):
        with pytest.raises(IntegrityError, match="incorrect key"):
            opened(cipher(gpg.public(user), gpg.private(user)), gpg.encrypt(b"x", user, "--cipher-algo", name))


def test_every_key_of_the_ring_is_a_recipient(gpg) -> None:
    users = ["first@example.org", "second@example.org"]
    gpg.make(users[0], *KINDS["rsa"])
    gpg.make(users[1], *KINDS["cv25519"])
    sealed = seal(cipher(gpg.public(*users)), CRLF)
    for user in users:
        assert opened(cipher(gpg.public(user), gpg.private(user)), sealed) == CRLF


def test_the_newest_subkey_is_used_and_an_older_one_still_reads(gpg) -> None:
    user = "subs@example.org"
    fingerprint = gpg.make(user, "ed25519", "cv25519", at="20200101T000000")
    before = seal(cipher(gpg.public(user)), b"old")
    gpg.run("--faked-system-time", "20210101T000000", "--quick-add-key", fingerprint, "nistp256", "encr", "never")
    crypter = cipher(gpg.public(user), gpg.private(user))
    (recipient,), _ = crypter.recipients()
    assert recipient.curve == "SECP256R1"
    assert opened(crypter, before) == b"old"
    assert gpg.decrypt(seal(crypter, b"new")) == b"new"


def test_secret_subkeys_without_the_primary_secret_read(gpg) -> None:
    user = "detached@example.org"
    gpg.make(user, *KINDS["cv25519"])
    ring = gpg.run("-a", "--export-secret-subkeys", user)
    assert opened(cipher(ring, ring, b"not needed"), seal(cipher(gpg.public(user)), b"x")) == b"x"


def test_expired_keys_are_refused_by_name_but_still_read(gpg) -> None:
    user = "expired@example.org"
    fingerprint = gpg.make(user, "ed25519", "cv25519", at="20200101T000000", expire="2020-06-01")
    public, private = gpg.public(user), gpg.private(user)
    with pytest.raises(ConfigError, match=r"because it has no valid encryption keys: the key expired on 2020-0") as e:
        seal(cipher(public), b"x")
    assert fingerprint[-16:].lower() in str(e.value)
    assert "expired@example.org" in (e.value.hint or "")
    old = gpg.run("--faked-system-time", "20200102T000000", "-r", user, "-e", data=b"from then")
    assert opened(cipher(public, private), old) == b"from then"


def test_an_expired_subkey_is_refused(gpg) -> None:
    user = "expired-sub@example.org"
    gpg.run("--faked-system-time", "20200101T000000", "--quick-gen-key", user, "ed25519", "cert,sign", "never")
    fingerprint = gpg.fingerprint(user)
    gpg.run("--faked-system-time", "20200101T000000", "--quick-add-key", fingerprint, "cv25519", "encr", "1m")
    with pytest.raises(ConfigError, match=r"its sub-key [0-9A-F]{16} expired on 2020-01-31"):
        seal(cipher(gpg.public(user)), b"x")


def test_a_revoked_key_is_refused_even_beside_a_good_one(gpg) -> None:
    gpg.make("good@example.org", *KINDS["cv25519"])
    fingerprint = gpg.make("revoked@example.org", *KINDS["cv25519"])
    text = (gpg.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
    gpg.run("--import", data=text.encode())
    with pytest.raises(ConfigError, match="the key is revoked"):
        seal(cipher(gpg.public("good@example.org", "revoked@example.org")), b"x")


def test_a_key_for_signing_only_is_refused(gpg) -> None:
    gpg.run("--quick-gen-key", "sign@example.org", "ed25519", "cert,sign", "never")
    with pytest.raises(ConfigError, match="only for signing"):
        seal(cipher(gpg.public("sign@example.org")), b"x")


def test_the_public_ring_cannot_read_and_says_so(gpg) -> None:
    user = "public@example.org"
    gpg.make(user, *KINDS["cv25519"])
    crypter = cipher(gpg.public(user))
    with pytest.raises(ConfigError, match="no private key"):
        opened(crypter, seal(crypter, b"x"))


def test_another_recipients_message(gpg) -> None:
    for user in ("me@example.org", "you@example.org"):
        gpg.make(user, *KINDS["cv25519"])
    with pytest.raises(IntegrityError, match="incorrect key"):
        opened(
            cipher(gpg.public("me@example.org"), gpg.private("me@example.org")),
            seal(cipher(gpg.public("you@example.org")), b"x"),
        )


def test_the_session_cipher_follows_the_preferences(gpg) -> None:
    rings = {}
    for name, preferences in (("a256", "AES256 SHA256"), ("a128", "AES SHA256"), ("both", "AES256 AES SHA256")):
        user = f"{name}@prefs.example.org"
        gpg.run("--default-preference-list", preferences, "--quick-gen-key", user, "ed25519", "cert,sign", "never")
        gpg.run("--quick-add-key", gpg.fingerprint(user), "cv25519", "encr", "never")
        rings[name] = user
    chosen = {
        names: cipher(gpg.public(*(rings[name] for name in names))).recipients()[1]
        for names in (("a256",), ("a128",), ("both",), ("a256", "a128"), ("a256", "both"))
    }
    assert chosen == {("a256",): 9, ("a128",): 7, ("both",): 7, ("a256", "a128"): 7, ("a256", "both"): 9}


# Keys by their id, out of gpg's keyring.


@pytest.fixture
def account(gpg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account whose gpg is the fixture's and whose home directory is empty."""
    monkeypatch.setenv("GNUPGHOME", str(gpg.home))
    monkeypatch.setattr(gpg_module, "_cache_path", lambda: str(tmp_path / gpg_module.CACHE))
    return tmp_path


def by_id(**settings: str) -> OpenPgp:
    return create(Config(OPENPGP, environment=settings))


def test_a_gpg_key_id_alone_encrypts_and_the_key_is_cached(gpg, account: Path, monkeypatch) -> None:
    user = "byid@example.org"
    gpg.make(user, *KINDS["cv25519"])
    sealed = seal(by_id(WALG_GPG_KEY_ID=user), b"data")
    assert gpg.decrypt(sealed) == b"data"
    assert opened(by_id(WALE_GPG_KEY_ID=user, GPG_KEY_ID="x"), sealed) == b"data"
    cache = account / gpg_module.CACHE
    assert cache.stat().st_mode & 0o777 == 0o644
    assert user in cache.read_text()
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpg.decrypt(seal(by_id(WALG_GPG_KEY_ID=user), b"from the cache")) == b"from the cache"
    with pytest.raises(ConfigError, match="executable file not found"):
        seal(by_id(WALG_GPG_KEY_ID="other@example.org"), b"x")


def test_what_the_original_left_unencrypted_is_still_read(gpg, account: Path) -> None:
    plain = bytes.fromhex("04224d186470b90000000000") + os.urandom(20)
    assert opened(by_id(WALG_GPG_KEY_ID="any"), plain) == plain
    with pytest.raises(IntegrityError, match="no OpenPGP message"):
        opened(by_id(WALG_GPG_KEY_ID="any", GPG_KEY_ID="any"), plain)


def test_a_broken_cache_is_ignored(gpg, account: Path, capsys) -> None:
    user = "broken@example.org"
    gpg.make(user, *KINDS["cv25519"])
    (account / gpg_module.CACHE).write_text("{")
    assert gpg.decrypt(seal(by_id(WALG_GPG_KEY_ID=user), b"x")) == b"x"
    assert "is ignored" in capsys.readouterr().err


def test_the_bare_switch_without_an_id_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no any supported gpg crypter"):
        by_id(GPG_KEY_ID="ABCD")


def test_an_unknown_id(gpg, account: Path) -> None:
    with pytest.raises(ConfigError, match="exporting gpg key"):
        seal(by_id(WALG_GPG_KEY_ID="nobody@example.org"), b"x")
