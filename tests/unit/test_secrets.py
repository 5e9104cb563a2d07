"""What is a secret in an image, and what only looks like one."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import config, secret

BODY = b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n"
MIXED = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6a7B8c9D0e1"  # as tokens are


def pem(what: str) -> bytes:
    return f"-----BEGIN {what}-----\n".encode() + BODY


@pytest.mark.parametrize("content", [
    *(pem(f"{kind}PRIVATE KEY") for kind in ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "ENCRYPTED COSIGN ")),
    pem("PGP PRIVATE KEY BLOCK"),
    b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 2\n\n" + BODY,
    b"-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n",
    b'{"key": "-----BEGIN RSA PRIVATE KEY-----\\nProc-Type: 4,ENCRYPTED\\n"}',
    b"key: |\n    -----BEGIN PRIVATE KEY-----\n    " + BODY,
    b"KEY=-----BEGIN PRIVATE KEY----- " + BODY,
    b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n",
    *(b"client-key-data: " + base64.b64encode(pem(f"{kind}PRIVATE KEY")) for kind in ("", "RSA ", "EC ", "OPENSSH ")),
    b"[Interface]\nPrivateKey = " + base64.b64encode(bytes(range(32))) + b"\n",
    b"Created: 20260101T000000\nKey: (protected-private-key (ecc (curve Ed25519)\n",
    b"\x94\x58\x04\x6a\x00\x00\x00\x16\x09", b"\xc5\x58\x06\x6a\x00\x00\x00\x1b\x09",  # secret keys of OpenPGP
    b"(11:private-key(3:rsa(1:n", b"(21:protected-private-key(3:ecc",
    b"Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\n",
    b"AGE-SECRET-KEY-1" + b"Q" * 58,
    b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    b'{"kty":"EC","crv":"P-256","x":"' + b"x" * 43 + b'","y":"' + b"y" * 43 + b'","d":"' + b"d" * 43 + b'"}',
    b'{"keys": [{"k": "' + b"k" * 43 + b'", "kty" : "oct"}]}',
    b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1\0\0\0\1\0\4name",  # a key store of Java
])
def test_a_private_key_is_one_in_every_form(content: bytes) -> None:
    assert secret.of_file("/opt/piece", content) == "is a private key"


@pytest.mark.parametrize("command", [
    "genpkey -algorithm ed25519 -outform DER -out {}",
    "genpkey -algorithm RSA -outform DER -out {}",
    "ecparam -name prime256v1 -genkey -noout -outform DER -out {}",
    "ecparam -name secp521r1 -genkey -noout -outform DER -out {}",
    "pkcs8 -topk8 -in {key} -passout pass:x -outform DER -out {}",
    "pkcs8 -topk8 -v1 PBE-SHA1-3DES -in {key} -passout pass:x -outform DER -out {}",
    "pkcs12 -export -inkey {key} -in {certificate} -passout pass:x -out {}",
])
def test_a_private_key_is_one_in_binary_too(tmp_path: Path, pair: dict[str, Path], command: str) -> None:
    assert secret.of_file("/opt/piece", made(tmp_path, pair, command)) == "is a private key"


@pytest.mark.parametrize("command", [
    "x509 -in {certificate} -outform DER -out {}",
    "pkey -in {key} -pubout -outform DER -out {}",
    "pkey -in {key} -pubout -out {}",
    "req -new -key {key} -subj /CN=x -outform DER -out {}",
    "pkcs12 -export -nokeys -in {certificate} -passout pass:x -out {}",
    "crl2pkcs7 -nocrl -certfile {certificate} -outform DER -out {}",
])
def test_certificates_and_public_keys_are_no_secrets(tmp_path: Path, pair: dict[str, Path], command: str) -> None:
    assert secret.of_file("/opt/piece", made(tmp_path, pair, command)) == ""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A private key, and a certificate of it."""
    folder = tmp_path_factory.mktemp("pair")
    found = {"key": folder / "key.pem", "certificate": folder / "certificate.pem"}
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout {key} -out {certificate}"
            .format(**found))
    return found


def made(folder: Path, pair: dict[str, Path], command: str) -> bytes:
    openssl(command.format(folder / "made", **pair))
    return (folder / "made").read_bytes()


def openssl(words: str) -> None:
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)


@pytest.mark.parametrize("content", [
    b"such as -----BEGIN RSA PRIVATE KEY----- in a sentence",
    pem("PUBLIC KEY"), pem("CERTIFICATE"), pem("PGP PUBLIC KEY BLOCK"),
    base64.b64encode(pem("CERTIFICATE")),
    b"-----BEGIN PRIVATE KEY-----\n...\n",
    b"PrivateKey = <your key>\n",
    b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    b"export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    b"\x98\x33\x04\x6a\x00\x00\x00\x16\x09", b"\x94\x58\x04\x6a\x00\x00\x00 text",
    b"such as (private-key (rsa (n #00#)))", b"Key: (public-key (rsa (n #00#)))",
    b"ghp_" + b"x" * 36, b"ghp_short", b"npm_config_registry_of_somebody_or_other_x",
    b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1\0\0\0\2\0\4name",  # certificates alone
])
def test_what_only_speaks_of_keys_is_no_secret(content: bytes) -> None:
    assert secret.of_file("/usr/share/doc/x/README", content) == ""


@pytest.mark.parametrize("token", [
    f"ghp_{MIXED[:36]}", f"gho_{'A' * 36}", f"github_pat_{MIXED[:22]}_{MIXED[:59]}", f"glpat-{MIXED[:20]}",
    f"npm_{MIXED[:36]}", f"pypi-AgEIcHlwaS5vcmc{MIXED}", f"rubygems_{'0a' * 24}", f"dckr_pat_{MIXED[:27]}",
    f"xoxb-123456789012-{MIXED[:24]}", f"https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/{MIXED[:24]}",
    f"sk_live_{MIXED[:24]}", f"hvs.{MIXED[:24]}", f"SG.{MIXED[:22]}.{MIXED[:43]}", f"dop_v1_{'0a' * 32}",
    f"aws_secret_access_key = {MIXED[:40]}", f"export AWS_SECRET_ACCESS_KEY={MIXED[:40]}",
])
def test_a_token_is_known_by_how_it_begins(token: str) -> None:
    assert secret.of_file("/app/settings.py", f"token = '{token}'\n".encode()) == "has a token"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/root/.netrc", b"machine a login b password c\n"),
        ("/etc/apt/auth.conf.d/a.conf", b"machine a\nlogin b\npassword c\n"),
        ("/etc/apt/sources.list.d/a.sources", b"URIs: https://me:word@example.org/debian\n"),
        ("/root/.npmrc", b"//r/:_authToken=abc\n"),
        ("/root/.pypirc", b"[pypi]\npassword = abc\n"),
        ("/root/.docker/config.json", b'{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}'),
        ("/root/.docker/config.json", b'{"auths": {"r": {"identitytoken": "abcdefgh"}}}'),
        ("/run/secrets/.dockerconfigjson", b'{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}'),
        ("/run/containers/0/auth.json", b'{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}'),
        ("/root/.azure/msal_token_cache.json", b'{"RefreshToken": {"a": {"secret": "0.abc"}}}'),
        ("/app/.envrc", b"export DB_PASSWORD=abc\n"),
        ("/kaniko/config.json", b'{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}'),
        ("/app/.git/config", b"[remote]\n\turl = https://me:word@example.org/a.git\n"),
        ("/app/.git/config", b"\textraheader = AUTHORIZATION: basic eDp5\n"),
        ("/root/.git-credentials", b"https://me:word@example.org\n"),
        ("/root/.config/git/credentials", b"https://me:word@example.org\n"),
        ("/root/.config/pip/pip.conf", b"index-url = https://me:word@example.org/simple\n"),
        ("/root/.gem/credentials", b":rubygems_api_key: abc\n"),
        ("/root/.my.cnf", b"[client]\npassword=abc\n"),
        ("/root/.aws/config", b"aws_secret_access_key = abc\n"),
        ("/root/.composer/auth.json", b'{"http-basic": {"r": {"username": "a", "password": "b"}}}'),
        ("/root/.config/gh/hosts.yml", b"github.com:\n  oauth_token: abc\n"),
        ("/root/.m2/settings.xml", b"<server><password>abc</password></server>"),
        ("/root/.vault-token", b"abc\n"),
        ("/root/.kube/config", b"users:\n- user:\n    token: abc\n"),
        ("/app/kubeconfig", b'{"users": [{"user": {"client-key-data": "TFMw"}}]}'),
        ("/etc/kubernetes/admin.conf", b"    client-key-data: TFMw\n"),
        ("/app/terraform.tfstate", b'{"attributes": {"db_password": "abc", "name": "x"}}'),
        ("/etc/nginx/.htpasswd", b"me:$apr1$x$y\n"),
        ("/etc/krb5.keytab", b"\x05\x02\0\0"),
        ("/app/.env", b"DEBUG=1\nDB_PASSWORD=abc\n"),
        ("/app/prod.env", b"export DATABASE_URL='postgres://a:b@db/x'\n"),
        ("/etc/environment", b"NPM_TOKEN=\"abc\"\n"),
    ],
)
def test_the_usual_files_have_passwords_and_tokens(path: str, content: bytes) -> None:
    assert secret.of_file(path, content) == "has a password or token"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/app/.npmrc", b"//r/:_authToken=${NPM_TOKEN}\n"),
        ("/root/.netrc", b"# a password belongs here\n"),
        ("/app/config.json", b'{"auth": "basic", "password": ""}'),
        ("/app/.git/config", b"[remote]\n\turl = https://example.org:443/a@b.git\n\turl = git@example.org:a.git\n"),
        ("/etc/apt/sources.list.d/a.sources", b"URIs: https://example.org/debian\n"),
        ("/etc/apt/sources.list.d/a.sources", b"URIs: https://${WHO}:${WORD}@example.org/debian\n"),
        ("/app/.env.example", b"DB_PASSWORD=abc\n"),
        ("/app/.env", b"DB_PASSWORD=\nDB_PASSWORD_FILE=/run/x\nALLOW_EMPTY_PASSWORD=yes\nTOKEN=${TOKEN}\n"),
        ("/etc/shadow", b"root:x:20000::::::\nsys:!*:20000::::::\n"),
        ("/etc/gshadow", b"staff::root:me\n"),
        ("/app/terraform.tfstate", b'{"attributes": {"password": "", "token_url": "https://x", "secret": null}}'),
    ],
)
def test_the_usual_files_without_any_are_no_secrets(path: str, content: bytes) -> None:
    assert secret.of_file(path, content) == ""


@pytest.mark.parametrize(("path", "content"), [("/etc/shadow", b"daemon:*:1:\nroot::20000::::::\n"),
                                               ("/etc/passwd", b"daemon:*:1:1:::\nroot::0:0:::\n")])
def test_an_account_that_needs_no_password_is_told(path: str, content: bytes) -> None:
    assert secret.of_file(path, content) == "lets anybody be root without a password"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"config": {"Env": ["PGPASSWORD=x", "MYSQL_PWD=y", "CLIENTSECRET=z"]}},
         {"ENV PGPASSWORD", "ENV MYSQL_PWD", "ENV CLIENTSECRET"}),
        ({"config": {"Env": ["PWD=/x", "BYPASS=x", "ALLOW_EMPTY_PASSWORD=yes", "A_TOKEN=$B", "TOKENS=4"]}}, set()),
        ({"config": {"Env": ["DATABASE_URL=postgres://a:b@db/x", "PROXY=http://proxy:3128/a@b"]}},
         {"ENV DATABASE_URL"}),
        ({"history": [{"created_by": "RUN |2 NPM_TOKEN=abc WHERE=/x /bin/sh -c npm ci # buildkit"}]},
         {"history NPM_TOKEN"}),
        ({"history": [{"created_by": "/bin/sh -c #(nop)  ARG API_KEY=abc"}]}, {"history API_KEY"}),
        ({"history": [{"created_by": "ENV A_TOKEN=abc"}], "config": {"Env": ["A_TOKEN=abc"]}}, {"ENV A_TOKEN"}),
        ({"history": [{"created_by": "ENV A_TOKEN=abc"}], "config": {"Env": ["A_TOKEN="]}}, {"history A_TOKEN"}),
        ({"history": [{"created_by": "RUN /bin/sh -c token=$(cat x) # buildkit"}, {"empty_layer": True}]}, set()),
        ({"history": [{"created_by": "RUN /bin/sh -c git clone https://me:word@example.org/a"}]}, {"configuration"}),
        ({"config": {"Labels": {"a": f"ghp_{MIXED[:36]}"}}}, {"configuration"}),
        ({"config": {"Labels": {"a": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"},
                     "Env": ["TOKEN=-"]}}, {"configuration", "ENV TOKEN"}),
    ],
)
def test_a_secret_in_the_configuration_is_found_once(said: dict[str, Any], found: set[str]) -> None:
    assert sorted(one.subject for one in config.secrets(said)) == sorted(found)


HOSTILE = (b"\n", b" ", b"machine\n", b"machine ", b"password ", b"token:", b"export ", b"\nexport ", b"a=", b"x:",
           b"{", b"://a:", b'"kty"', b'{"kty":"RSA"', b"-----BEGIN ", b"-----BEGIN PRIVATE KEY-----\n", b"\nPrivateKey",
           b"authorization: ", b"aws_secret_access_key", b"Private-key-format: v1 \n", b"npm_")


@pytest.mark.parametrize("word", HOSTILE)
def test_no_file_takes_long_to_read(word: bytes) -> None:
    """A pattern that tries each of many beginnings to the end takes minutes for an image that means harm."""
    content = (word * (64 << 10))[:64 << 10]
    began = time.monotonic()
    secret.of_text(b" ".join((*secret.KEYS, *secret.TOKENS)) + b"\n" + content)
    for path in (*secret.FILES, *secret.VARIABLES):
        secret.of_file("/" + path.replace("*", "x"), content)
    assert time.monotonic() - began < 5
